/* main_metal.c: sd-worker-metal. */
#include "worker/command.h"

int main(int argc, char **argv)
{
    return sdw_main(argc, argv, "metal");
}
