/* Publishing at a steady rate: each message is due at its time, whoever publishes it, and its latency counts from then.
 * A server that answers late therefore makes no message's latency look better than its reader sees it. */
#include "load.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int timer = -1;
static int64_t begun;
static uint64_t taken;

static int64_t due_at(uint64_t number)
{
    return begun + (int64_t)((double)number / options.rate * 1e9);
}

void start_pace(void)
{
    int64_t interval = (int64_t)(1e9 / options.rate);
    struct timespec each = {.tv_sec = interval / 1000000000, .tv_nsec = interval % 1000000000};
    struct itimerspec times = {.it_interval = each, .it_value = each};
    if (timer < 0) {
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (timer < 0) fail("timerfd");
        watch(timer, PACE, 0, EPOLLIN);
    }
    begun = now() + interval;
    taken = 0;
    timerfd_settime(timer, 0, &times, 0);
}

/* The timer has woken us, which is all that it is for. */
void tick(void)
{
    uint64_t times;
    if (read(timer, &times, sizeof times) < 0) return;
}

/* True if a message is due that nobody has published; it says since when. */
bool take_turn(int64_t *due)
{
    *due = due_at(taken);
    if (*due > now()) return false;
    taken++;
    return true;
}
