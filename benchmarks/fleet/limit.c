/* The limit: a C client on raw epoll, ping-pong of one line on every connection.
 * limit PORT CONNECTIONS SECONDS prints the number of round trips and the seconds they took. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int connections = atoi(argv[2]);
    double seconds = atof(argv[3]);
    char line[64], heard[4096];
    memset(line, 'x', sizeof line);
    line[63] = '\n';
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int poll = epoll_create1(0), one = 1;
    for (int i = 0; i < connections; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
        inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
        int s = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(s, (struct sockaddr *)&to, sizeof to)) return 3;
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event want = {.events = EPOLLIN, .data.fd = s};
        epoll_ctl(poll, EPOLL_CTL_ADD, s, &want);
        if (write(s, line, sizeof line) != sizeof line) return 4;
    }
    struct epoll_event ready[1024];
    long trips = 0;
    double began = now(), end = began + seconds, at = began;
    while (at < end) {
        int n = epoll_wait(poll, ready, 1024, 100);
        for (int i = 0; i < n; i++) {
            if (read(ready[i].data.fd, heard, sizeof heard) <= 0) return 5;
            trips++;
            if (write(ready[i].data.fd, line, sizeof line) != sizeof line) return 4;
        }
        at = now();
    }
    printf("%ld %f\n", trips, at - began);
    return 0;
}
