# Creates a cluster in the given directory and runs it. When its owner has ended, it stops the server and removes
# everything. The owner holds the other end of standard input. Its end-of-file shows that the owner has ended, even if
# it was killed. After the password, the owner can send signals for restarts, each in a line.
#
# Arguments: the directory, the program that creates the cluster, postgres, then the arguments for postgres. For a
# standby, that program is pg_basebackup, and PRIMARY says where its primary is. Standard input: the password.
directory=$1 create=$2 postgres=$3
shift 3

# A service manager may signal all processes it has started. That must not prevent the clean-up.
trap : HUP INT TERM
# The shell gives background processes an empty standard input, so the owner's pipe needs its own descriptor.
exec 3<&0 </dev/null

# The owner creates the directory and then sends the password. Without the password, the directory is empty or missing.
read -r password <&3 || {
    rmdir "$directory"
    exit 1
}
cd "$directory" || exit 1
umask 077
printf '%s\n' "$password" >password

copy_primary() {
    PGPASSWORD=$password "$create" --pgdata=data --dbname="$PRIMARY" --checkpoint=fast --no-sync --write-recovery-conf
}

# The encoding and locale do not depend on the machine. There is no Unix socket, so only loopback needs a rule. It
# requires a password, so other users of the machine cannot connect. The method is `password` and not SCRAM, because
# SCRAM hashes thousands of times in the client, which is slow in an unoptimised build. The password never leaves the
# machine.
create_cluster() {
    "$create" --pgdata=data --no-sync --encoding=UTF8 --locale=C --username=postgres --pwfile=password --auth=password
}

if [ -n "$PRIMARY" ]; then copy_primary; else create_cluster; fi >log 2>&1 3<&- || {
    : >ended
    # The owner still has to read the log.
    read -r _ <&3
    cd / && rm -rf "$directory"
    exit 1
}
rm -f password

(
    # A signal also ends the `read`, and has the same meaning as its end-of-file.
    trap : HUP INT TERM
    # Each line is the signal for a restart.
    while read -r signal <&3; do
        : >restart
        kill -"$signal" "$(cat server)"
    done
    : >stop
    trap - HUP INT TERM
    # Fast shutdown. A server that is still starting ignores the signal, so it is sent repeatedly.
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -e ended ] && exit
        kill -INT "$(cat server)"
        sleep 0.25
    done
    kill -QUIT "$(cat server)"
    sleep 3
    kill -KILL "$(cat server)"
) &

while :; do
    rm -f restart ended
    "$postgres" -D data "$@" >>log 2>&1 3<&- &
    server=$!
    printf '%s\n' "$server" >server
    # A signal can end the `wait` early.
    while kill -0 "$server"; do
        wait "$server"
    done
    : >ended
    # If the server ended on its own, the owner still has to read the log, or restarts it.
    until [ -e stop ] || [ -e restart ]; do
        sleep 0.1
    done
    [ -e stop ] && break
done
# Only the subshell that sends signals, with its `sleep`, can remain in this process group.
kill -TERM 0
cd / && { rm -rf "$directory" || { sleep 1 && rm -rf "$directory"; }; }
