@FUNCTIONS@
make_user
if [ "$1" = 1 ] && [ ! -e /etc/octopus/Tentacle/Instances ]; then
    echo "To set up a worker: tentacle init"
fi
exit 0
