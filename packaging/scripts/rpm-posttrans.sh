@FUNCTIONS@
restart_running
exit 0
