/* main_cuda.c: sd-worker-cuda. */
#include "worker/command.h"

int main(int argc, char **argv)
{
    return sdw_main(argc, argv, "cuda");
}
