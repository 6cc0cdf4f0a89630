/* download.h: how a download is told to people: one line, a bar on a terminal, lines in the log. */
#ifndef SDW_WORKER_DOWNLOAD_H
#define SDW_WORKER_DOWNLOAD_H

#include "hub/download.h"

#define SDW_DOWNLOAD_LINE_MAX 240

/* "downloading owner/name: 1.23 of 2.58 GB (47%), 34.5 MB/s, 39 s left" */
void sdw_download_line(char *line, const struct sdw_hub_state *state);

struct sdw_download {
    bool bar;    /* redraw one line on standard error; else a line in the log every few seconds */
    double next; /* of the monotonic clock: when the log's next line is due */
    int drawn;   /* columns of the line that stands there */
};

/* A `tell` of struct sdw_hub_progress; context is a struct sdw_download. */
void sdw_download_show(void *download, const struct sdw_hub_state *state);
/* Ends the bar's line, if there is one. */
void sdw_download_end(struct sdw_download *download);

#endif
