# Creates a cluster in the given directory, runs it, and when its owner has ended stops it and removes everything.
# The owner holds the other end of standard input; its end-of-file is how we learn that the owner is gone, even if it
# was killed without a chance to say so.
#
# Arguments: the directory, initdb, postgres, then the arguments for postgres. Standard input: the password.
directory=$1 initdb=$2 postgres=$3
shift 3

# Being told to end (by a service manager which signals everything it started) must not keep us from cleaning up.
trap : HUP INT TERM
# The shell gives its background processes an empty standard input, so the owner's pipe needs a number of its own.
exec 3<&0 </dev/null

# The owner creates the directory, and then says the password. Without that there is at most an empty directory.
read -r password <&3 || {
    rmdir "$directory"
    exit 1
}
cd "$directory" || exit 1
umask 077
printf '%s\n' "$password" >password

# An encoding and a locale which do not depend on the machine. No Unix socket, so only loopback needs a rule, and it
# is a password, so that other users of the machine cannot get in. The method is `password` instead of SCRAM because
# SCRAM hashes thousands of times in the client, which takes a noticeable time in an unoptimised build; the password
# never leaves the machine.
"$initdb" --pgdata=data --no-sync --encoding=UTF8 --locale=C --username=postgres --pwfile=password \
    --auth=password >log 2>&1 3<&- || {
    : >ended
    # The owner still wants to read the log.
    read -r _ <&3
    cd / && rm -rf "$directory"
    exit 1
}
rm -f password

"$postgres" -D data "$@" >log 2>&1 3<&- &
server=$!

(
    # A signal ends the `read` as well, and means the same.
    trap : HUP INT TERM
    read -r _ <&3
    trap - HUP INT TERM
    # Fast shutdown. A server which is only just starting ignores the signal, hence more than one.
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -e ended ] && exit
        kill -INT "$server"
        sleep 0.25
    done
    kill -QUIT "$server"
    sleep 3
    kill -KILL "$server"
) &

# A signal ends the `wait` early.
while kill -0 "$server"; do
    wait "$server"
done
: >ended
# If the server ended by itself, the owner still wants to read the log.
read -r _ <&3
# All that can be left in our process group is the part which sends signals, with its `sleep`.
kill -TERM 0
cd / && { rm -rf "$directory" || { sleep 1 && rm -rf "$directory"; }; }
