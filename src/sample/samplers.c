/* samplers.c: the table of samplers. A new one is a file and a row. */
#include "sample/samplers.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static void pndm_defaults(struct sdw_schedule_config *config)
{
    if (config->set_alpha_to_one < 0)
        config->set_alpha_to_one = 0;
}

/* The solvers that work on sigmas span the training by default. */
static void sigma_defaults(struct sdw_schedule_config *config)
{
    if (!config->timestep_spacing)
        config->timestep_spacing = SDW_SPACING_LINSPACE;
}

/* Where rows share a class, the first one whose algorithm and order fit stands for it. */
const struct sdw_sampler_kind sdw_sampler_kinds[] = {
    {.info = {"ddim", "DDIM", "DDIMScheduler",
              "Deterministic and dependable; the base line that others are measured against.",
              false, false},
     .order = 1,
     .prepare = sdw_prepare_timesteps,
     .step = sdw_ddim_step},
    {.info =
         {"pndm", "PLMS", "PNDMScheduler",
          "Fourth-order multistep, the first default of Stable Diffusion 1; one evaluation more "
          "than steps.",
          false, false},
     .order = 1,
     .slots = 5,
     .defaults = pndm_defaults,
     .prepare = sdw_pndm_prepare,
     .step = sdw_pndm_step},
    {.info = {"euler", "Euler", "EulerDiscreteScheduler",
              "One straight step at a time; simple and good.", false, true},
     .order = 1,
     .ve = true,
     .defaults = sigma_defaults,
     .prepare = sdw_prepare_sigmas,
     .step = sdw_euler_step},
    {.info = {"euler_ancestral", "Euler a", "EulerAncestralDiscreteScheduler",
              "Euler with fresh noise every step; varied, never settles with more steps.", true,
              true},
     .order = 1,
     .ve = true,
     .defaults = sigma_defaults,
     .prepare = sdw_prepare_sigmas,
     .step = sdw_euler_ancestral_step},
    {.info = {"dpmpp_2m", "DPM++ 2M", "DPMSolverMultistepScheduler",
              "Second-order multistep; the best picture in 15 to 25 steps, with karras above all.",
              false, true},
     .algorithm = SDW_ALGORITHM_DPMSOLVER_PP,
     .solver_order = 2,
     .order = 1,
     .slots = 3,
     .defaults = sigma_defaults,
     .prepare = sdw_dpmpp_multistep_prepare,
     .step = sdw_dpmpp_multistep_step},
    {.info = {"dpmpp_2m_sde", "DPM++ 2M SDE", "DPMSolverMultistepScheduler",
              "DPM++ 2M with fresh noise every step; rich detail, 25 steps and more.", true, true},
     .algorithm = SDW_ALGORITHM_SDE_DPMSOLVER_PP,
     .solver_order = 2,
     .order = 1,
     .slots = 3,
     .defaults = sigma_defaults,
     .prepare = sdw_dpmpp_multistep_prepare,
     .step = sdw_dpmpp_multistep_step},
    {.info = {"dpmpp_3m", "DPM++ 3M", "DPMSolverMultistepScheduler",
              "Third-order multistep; for low guidance.", false, true},
     .algorithm = SDW_ALGORITHM_DPMSOLVER_PP,
     .solver_order = 3,
     .order = 1,
     .slots = 3,
     .defaults = sigma_defaults,
     .prepare = sdw_dpmpp_multistep_prepare,
     .step = sdw_dpmpp_multistep_step},
    {.info = {"dpmpp_1", "DPM++ 1", "DPMSolverMultistepScheduler",
              "First order: DDIM's step on the schedules of the DPM++ family.", false, true},
     .algorithm = SDW_ALGORITHM_DPMSOLVER_PP,
     .solver_order = 1,
     .order = 1,
     .slots = 3,
     .defaults = sigma_defaults,
     .prepare = sdw_dpmpp_multistep_prepare,
     .step = sdw_dpmpp_multistep_step},
    {.info = {"dpmsolver_2m", "DPM-Solver 2M", "DPMSolverMultistepScheduler",
              "The solver before ++, which expands the noise; for models without guidance.", false,
              true},
     .algorithm = SDW_ALGORITHM_DPMSOLVER,
     .solver_order = 2,
     .order = 1,
     .slots = 3,
     .defaults = sigma_defaults,
     .prepare = sdw_dpmpp_multistep_prepare,
     .step = sdw_dpmpp_multistep_step},
};

#define KINDS (int)(sizeof sdw_sampler_kinds / sizeof sdw_sampler_kinds[0])

int sdw_samplers_count(void)
{
    return KINDS;
}

const struct sdw_sampler_info *sdw_samplers_at(int i)
{
    return &sdw_sampler_kinds[i].info;
}

const char *const sdw_schedule_names[] = {"normal", "karras", NULL};

const struct sdw_sampler_kind *sdw_sampler_kind_find(const char *name, bool *karras)
{
    static const char *const endings[] = {"_karras", " karras"};
    char base[64];
    snprintf(base, sizeof base, "%s", name);
    size_t length = strlen(base), ending = strlen(endings[0]);
    *karras = length > ending && (strcasecmp(base + length - ending, endings[0]) == 0 ||
                                  strcasecmp(base + length - ending, endings[1]) == 0);
    if (*karras)
        base[length - ending] = '\0';
    for (int i = 0; i < KINDS; i++) {
        const struct sdw_sampler_info *info = &sdw_sampler_kinds[i].info;
        if ((strcasecmp(info->name, base) == 0 || strcasecmp(info->title, base) == 0 ||
             strcasecmp(info->class_name, base) == 0) &&
            (info->karras || !*karras))
            return &sdw_sampler_kinds[i];
    }
    return NULL;
}

const struct sdw_sampler_info *sdw_samplers_find(const char *name)
{
    bool karras;
    const struct sdw_sampler_kind *kind = sdw_sampler_kind_find(name, &karras);
    return kind ? &kind->info : NULL;
}

const struct sdw_sampler_kind *sdw_sampler_kind_of(const struct sdw_schedule_config *config)
{
    enum sdw_algorithm algorithm =
        config->algorithm_type ? config->algorithm_type : SDW_ALGORITHM_DPMSOLVER_PP;
    int solver_order = config->solver_order > 0 ? config->solver_order : 2;
    const struct sdw_sampler_kind *found = NULL;
    for (int i = 0; i < KINDS; i++) {
        const struct sdw_sampler_kind *kind = &sdw_sampler_kinds[i];
        if (strcmp(kind->info.class_name, config->class_name) != 0)
            continue;
        if (kind->algorithm == algorithm && kind->solver_order == solver_order)
            return kind;
        if (!found)
            found = kind;
    }
    return found;
}

const struct sdw_sampler_info *sdw_samplers_of_config(const struct sdw_schedule_config *config)
{
    const struct sdw_sampler_kind *kind = sdw_sampler_kind_of(config);
    return kind ? &kind->info : NULL;
}
