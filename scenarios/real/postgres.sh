# A PostgreSQL that anybody may use, on a new cluster; started again, on the one that is there.
bin=$(echo /usr/lib/postgresql/*/bin)
data=/tmp/cluster
if [ ! -e $data ]; then
  install -d -o postgres $data
  runuser -u postgres -- "$bin/initdb" --auth=trust --no-sync -D $data >/dev/null
  echo "host all all 0.0.0.0/0 trust" >>$data/pg_hba.conf
fi
rm -f $data/postmaster.pid
exec runuser -u postgres -- "$bin/postgres" -D $data -c listen_addresses='*' -c unix_socket_directories=/tmp
