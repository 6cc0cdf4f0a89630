/* main_cpu.c: sd-worker-cpu. */
#include "worker/command.h"

int main(int argc, char **argv)
{
    return sdw_main(argc, argv, "cpu");
}
