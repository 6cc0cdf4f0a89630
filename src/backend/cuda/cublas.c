/* cublas.c: a linear layer as the library sees it. It counts in columns where we count in rows, so
 * it is asked for out^T [o,rows] = W [o,i] . in^T [i,rows], each of which is what lies in memory.
 */
#include "backend/cuda/cublas.h"

#include "backend/cuda/library.h"
#include "backend/cuda/plans.h"
#include "base/log.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>

#define PROPOSALS_MAX 6
#define ALIGN         16u /* bytes, of every operand */

#define CUBLAS_TABLE(X)                                                                            \
    X(cublasLtCreate)                                                                              \
    X(cublasLtDestroy)                                                                             \
    X(cublasLtGetVersion)                                                                          \
    X(cublasLtMatmul)                                                                              \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)

/* A shape, and how it is computed. */
struct plan {
    int64_t rows;
    int in, out;
    enum sdw_dtype out_type;
    bool residual, declined;
    cublasLtMatrixLayout_t in_layout, weight_layout, out_layout;
    cublasLtMatmulAlgo_t algo;
};

struct sdw_cublas {
    void *library;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t product; /* with bias; its address is set for every call */
    char version[32];
    struct sdw_cuda_plans plans;
    struct plan plan[2 * SDW_CUDA_PLANS_MAX]; /* where plans has its shape */
#define MEMBER(name) __typeof__(name) *name;
    CUBLAS_TABLE(MEMBER)
#undef MEMBER
};

static bool find_functions(struct sdw_cublas *c)
{
    bool all = true;
#define FIND(row)                                                                                  \
    SDW_CUDA_LIBRARY_TAKE(c->row, c->library, #row);                                               \
    all &= c->row != NULL;
    CUBLAS_TABLE(FIND)
#undef FIND
    return all;
}

/* The product that all calls share: f32 sums, W transposed, a bias in the epilogue. */
static bool describe_product(struct sdw_cublas *c)
{
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    return !c->cublasLtMatmulDescCreate(&c->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) &&
           !c->cublasLtMatmulDescSetAttribute(c->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                              sizeof transposed) &&
           !c->cublasLtMatmulDescSetAttribute(c->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                              sizeof epilogue);
}

struct sdw_cublas *sdw_cublas_open(const struct sdw_cuda *cuda)
{
    char name[64];
    struct sdw_cublas *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    c->library = sdw_cuda_library_open(name, "SDW_CUDA_CUBLASLT");
    sdw_cuda_enter(cuda);
    const char *fault = !c->library                     ? "is not on this machine"
                        : !find_functions(c)            ? "lacks a function"
                        : c->cublasLtCreate(&c->handle) ? "does not start"
                        : !describe_product(c)          ? "knows no product with a bias"
                                                        : NULL;
    if (fault) {
        sdw_log_warn("%s %s: linear layers run on our own, slower kernel", name, fault);
        sdw_cublas_close(c);
        return NULL;
    }
    size_t version = c->cublasLtGetVersion();
    snprintf(c->version, sizeof c->version, "cuBLASLt %zu.%zu", version / 10000,
             version / 100 % 100);
    return c;
}

static void free_layouts(struct sdw_cublas *c, struct plan *plan)
{
    if (plan->in_layout)
        c->cublasLtMatrixLayoutDestroy(plan->in_layout);
    if (plan->weight_layout)
        c->cublasLtMatrixLayoutDestroy(plan->weight_layout);
    if (plan->out_layout)
        c->cublasLtMatrixLayoutDestroy(plan->out_layout);
    plan->in_layout = plan->weight_layout = plan->out_layout = NULL;
}

void sdw_cublas_close(struct sdw_cublas *c)
{
    if (!c)
        return;
    for (int i = 0; i < 2 * SDW_CUDA_PLANS_MAX; i++)
        free_layouts(c, &c->plan[i]);
    if (c->product)
        c->cublasLtMatmulDescDestroy(c->product);
    if (c->handle)
        c->cublasLtDestroy(c->handle);
    sdw_cuda_library_close(c->library);
    free(c);
}

const char *sdw_cublas_version(const struct sdw_cublas *c)
{
    return c->version;
}

static cudaDataType_t type_of(enum sdw_dtype dtype)
{
    return dtype == SDW_F32 ? CUDA_R_32F : dtype == SDW_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* What a call reads and writes. */
struct operands {
    void *out;
    const void *in, *weight, *residual;
};

static cublasStatus_t run(struct sdw_cuda *cuda, const struct plan *plan, const struct operands *of,
                          const cublasLtMatmulAlgo_t *algo)
{
    struct sdw_cublas *c = cuda->cublas;
    const float one = 1, zero = 0;
    return c->cublasLtMatmul(c->handle, c->product, &one, of->weight, plan->weight_layout, of->in,
                             plan->in_layout, of->residual ? &one : &zero,
                             of->residual ? of->residual : of->out, plan->out_layout, of->out,
                             plan->out_layout, algo, cuda->workspace, SDW_CUDA_WORKSPACE_BYTES,
                             (cudaStream_t)cuda->stream);
}

struct trial {
    struct sdw_cuda *cuda;
    const struct plan *plan;
    struct operands of;
    const cublasLtMatmulHeuristicResult_t *proposal;
};

static bool run_proposal(void *context, int way)
{
    const struct trial *trial = context;
    return run(trial->cuda, trial->plan, &trial->of, &trial->proposal[way].algo) ==
           CUBLAS_STATUS_SUCCESS;
}

/* The fastest of `count` proposals, by trial. They write beside the real output, which the residual
 * may be; without memory for that the library's first choice stands. */
static int fastest(struct sdw_cuda *cuda, const struct plan *plan, const struct operands *of,
                   const cublasLtMatmulHeuristicResult_t *proposal, int count)
{
    const struct sdw_cuda_driver *driver = &cuda->driver;
    size_t bytes = (size_t)plan->rows * (size_t)plan->out * sdw_dtype_bytes(plan->out_type);
    CUdeviceptr beside = count > 1 ? sdw_cuda_memory_new(cuda, bytes) : 0;
    int best = 0;
    float best_ms = -1;
    if (!beside)
        return 0;
    struct trial context = {cuda, plan, *of, proposal};
    struct sdw_cuda_trial trial = {run_proposal, &context};
    context.of.out = (void *)(uintptr_t)beside;
    for (int i = 0; i < count; i++) {
        float ms = sdw_cuda_time(cuda, &trial, i);
        if (ms >= 0 && (best_ms < 0 || ms < best_ms)) {
            best_ms = ms;
            best = i;
        }
    }
    driver->cuMemFree(beside);
    return best;
}

/* Layouts and algorithm of a new shape; it is declined where the library has none. */
static void make_plan(struct sdw_cuda *cuda, struct plan *plan, const struct operands *of,
                      enum sdw_dtype compute)
{
    struct sdw_cublas *c = cuda->cublas;
    cublasLtMatmulHeuristicResult_t proposal[PROPOSALS_MAX];
    cublasLtMatmulPreference_t wish = NULL;
    const size_t workspace = SDW_CUDA_WORKSPACE_BYTES;
    const uint32_t align = ALIGN;
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    uint64_t rows = (uint64_t)plan->rows, in = (uint64_t)plan->in, out = (uint64_t)plan->out;
    cudaDataType_t type = type_of(compute), out_type = type_of(plan->out_type);
    int count = 0;
    bool fine = !c->cublasLtMatrixLayoutCreate(&plan->weight_layout, type, in, out, plan->in) &&
                !c->cublasLtMatrixLayoutCreate(&plan->in_layout, type, in, rows, plan->in) &&
                !c->cublasLtMatrixLayoutCreate(&plan->out_layout, out_type, out, rows, plan->out) &&
                !c->cublasLtMatmulPreferenceCreate(&wish) &&
                !c->cublasLtMatmulPreferenceSetAttribute(
                    wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    for (size_t i = 0; i < sizeof aligned / sizeof aligned[0] && fine; i++)
        fine = !c->cublasLtMatmulPreferenceSetAttribute(wish, aligned[i], &align, sizeof align);
    fine = fine && !c->cublasLtMatmulAlgoGetHeuristic(
                       c->handle, c->product, plan->weight_layout, plan->in_layout,
                       plan->out_layout, plan->out_layout, wish, PROPOSALS_MAX, proposal, &count);
    if (wish)
        c->cublasLtMatmulPreferenceDestroy(wish);
    plan->declined = !fine || count == 0;
    if (plan->declined)
        free_layouts(c, plan);
    else
        plan->algo = proposal[fastest(cuda, plan, of, proposal, count)].algo;
}

/* The bias is of the output's type, which is f32 or the compute type. */
static bool set_bias(struct sdw_cublas *c, const struct sdw_cuda_weight *weight,
                     enum sdw_dtype out_type)
{
    cudaDataType_t type = type_of(out_type);
    const void *bias = out_type == SDW_F32 ? weight->bias : weight->bias_narrow;
    return !c->cublasLtMatmulDescSetAttribute(c->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                              &type, sizeof type) &&
           !c->cublasLtMatmulDescSetAttribute(c->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                              sizeof bias);
}

bool sdw_cublas_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *in, const struct sdw_cuda_weight *weight,
                       const struct sdw_tensor *residual)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    struct sdw_cublas *c = cuda->cublas;
    struct operands of = {out->data, in->data, weight->weight, residual ? residual->data : NULL};
    uintptr_t addresses = (uintptr_t)of.out | (uintptr_t)of.in | (uintptr_t)of.residual;
    if (!c || in->c % 8 != 0 || out->c % 8 != 0 || addresses % ALIGN != 0)
        return false;
    struct plan wanted = {.rows = sdw_tensor_rows(in),
                          .in = in->c,
                          .out = out->c,
                          .out_type = out->dtype,
                          .residual = residual != NULL};
    const struct sdw_cuda_key key = {
        {wanted.rows, wanted.in, wanted.out, wanted.out_type, wanted.residual}};
    bool fresh;
    int place = sdw_cuda_plans_find(&c->plans, &key, &fresh);
    sdw_cuda_enter(cuda);
    /* Planning waits for the GPU, which a recording must not. */
    if (place < 0 || (fresh && cuda->recording) || !set_bias(c, weight, out->dtype))
        return false;
    struct plan *plan = &c->plan[place];
    if (fresh) {
        *plan = wanted;
        make_plan(cuda, plan, &of, dev->compute);
        sdw_cuda_plans_keep(&c->plans, place, &key);
    }
    if (plan->declined)
        return false;
    cublasStatus_t status = run(cuda, plan, &of, &plan->algo);
    if (status == CUBLAS_STATUS_SUCCESS)
        return true;
    sdw_device_fail(dev, SDW_DEVICE, "%s: cuBLASLt failed a product [%lld,%d] -> %d (status %d)",
                    dev->id, (long long)plan->rows, plan->in, plan->out, (int)status);
    return true;
}
