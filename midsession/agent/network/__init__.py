"""What an agent does to its host's network: packet rules, a queue of packets, interfaces, sockets, names."""
