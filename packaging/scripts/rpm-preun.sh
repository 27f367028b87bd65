@FUNCTIONS@
# $1: how many versions are left.
if [ "$1" = 0 ]; then
    stop_all
fi
exit 0
