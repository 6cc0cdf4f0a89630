/* record.c: a step as a CUDA graph: hundreds of launches that cost the host one call. A tape is a
 * CUgraphExec. The workspace, scratch memory and weights lie where they lay, which the graph's
 * nodes rely on. */
#include "backend/cuda/cuda.h"

#include "base/log.h"

void sdw_cuda_record_begin(struct sdw_device *dev)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    sdw_cuda_enter(cuda);
    cuda->recording = true;
    sdw_cuda_ok(
        dev, cuda->driver.cuStreamBeginCapture(cuda->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
        "recording a step");
}

void *sdw_cuda_record_end(struct sdw_device *dev)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    const struct sdw_cuda_driver *driver = &cuda->driver;
    CUgraph graph = NULL;
    CUgraphExec tape = NULL;
    sdw_cuda_enter(cuda);
    cuda->recording = false;
    CUresult result = driver->cuStreamEndCapture(cuda->stream, &graph);
    if (result == CUDA_SUCCESS && !dev->failure.status)
        result = driver->cuGraphInstantiate(&tape, graph, 0);
    if (graph)
        driver->cuGraphDestroy(graph);
    if (result != CUDA_SUCCESS)
        sdw_log_warn("%s: a step cannot be recorded (%s): its kernels are launched one by one",
                     dev->id, sdw_cuda_words(driver, result));
    return result == CUDA_SUCCESS ? tape : NULL;
}

void sdw_cuda_record_play(struct sdw_device *dev, void *tape)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    sdw_cuda_enter(cuda);
    sdw_cuda_ok(dev, cuda->driver.cuGraphLaunch(tape, cuda->stream), "repeating a step");
}

void sdw_cuda_record_free(struct sdw_device *dev, void *tape)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    sdw_cuda_enter(cuda);
    cuda->driver.cuGraphExecDestroy(tape);
}
