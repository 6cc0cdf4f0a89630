/* cgroup.h: what a container's limit leaves of memory (Linux's control groups, version 2). */
#ifndef SDW_BASE_CGROUP_H
#define SDW_BASE_CGROUP_H

#include <stddef.h>

/* Bytes that the groups of a process still let it have, from its own group up to the root; SIZE_MAX
 * where none has a limit or there is no version 2. membership: /proc/self/cgroup; mount:
 * /sys/fs/cgroup. */
size_t sdw_cgroup_memory_free(const char *membership, const char *mount);

#endif
