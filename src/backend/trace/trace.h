/* trace.h: a device that computes nothing: shapes are checked, the peak of scratch memory is
 * recorded, and a profile (tensor/profile.h) counts the operations. What a model takes is known in
 * milliseconds, without its weights. */
#ifndef SDW_BACKEND_TRACE_TRACE_H
#define SDW_BACKEND_TRACE_TRACE_H

#include "tensor/backend.h"

/* options.dtype is the compute type (f32 where none is asked for); the stream type is f32, as on a
 * CPU: set dev->stream to trace another. Scratch memory is boundless; no data is ever touched, so
 * addresses may be anything. */
extern const struct sdw_backend sdw_backend_trace;

#endif
