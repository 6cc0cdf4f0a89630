/* service.h: a word to the service manager that started the worker (systemd's sd_notify(3)). */
#ifndef SDW_WORKER_SERVICE_H
#define SDW_WORKER_SERVICE_H

/* Sends "READY=1" or the like to $NOTIFY_SOCKET; does nothing when nobody asked. */
void sdw_service_notify(const char *state);

#endif
