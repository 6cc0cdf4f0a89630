/* download.c: see download.h. */
#include "worker/download.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

#define LOG_EVERY_S 5.0

void sdw_download_line(char *line, const struct sdw_hub_state *state)
{
    double percent =
        state->bytes_total ? 100.0 * (double)state->bytes_done / (double)state->bytes_total : 100;
    bool large = state->bytes_total >= 1000000000;
    double unit = large ? 1e9 : 1e6;
    int n = snprintf(line, SDW_DOWNLOAD_LINE_MAX, "downloading %.100s: %.2f of %.2f %s (%.0f%%)",
                     state->repository, (double)state->bytes_done / unit,
                     (double)state->bytes_total / unit, large ? "GB" : "MB", percent);
    if (state->left_s >= 0)
        snprintf(line + n, (size_t)(SDW_DOWNLOAD_LINE_MAX - n), ", %.1f MB/s, %.0f s left",
                 state->bytes_s / 1e6, state->left_s);
}

void sdw_download_show(void *context, const struct sdw_hub_state *state)
{
    struct sdw_download *download = context;
    char line[SDW_DOWNLOAD_LINE_MAX];
    sdw_download_line(line, state);
    if (download->bar) {
        /* Blanks over what a longer line before left behind. */
        download->drawn = fprintf(stderr, "\r%-*s", download->drawn - 1, line);
        fflush(stderr);
    } else if (sdw_clock_seconds() >= download->next) {
        sdw_log_info("%s%s%s", line, *state->file ? ": " : "", state->file);
        download->next = sdw_clock_seconds() + LOG_EVERY_S;
    }
}

void sdw_download_end(struct sdw_download *download)
{
    if (download->bar && download->drawn > 0)
        fputc('\n', stderr);
    download->drawn = 0;
}
