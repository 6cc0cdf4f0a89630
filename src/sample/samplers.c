/* samplers.c: the table of samplers. A new one is a file and a row. */
#include "sample/samplers.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Runge-Kutta steps are the class's default, but a model of another class does not mean them: nine
 * evaluations more, and none of them can start from an image. */
static void pndm_defaults(struct sdw_schedule_config *config)
{
    if (config->skip_prk_steps < 0)
        config->skip_prk_steps = strcmp(config->class_name, "PNDMScheduler") != 0;
    if (config->set_alpha_to_one < 0)
        config->set_alpha_to_one = 0;
}

/* The solvers that work on sigmas span the training by default. */
static void sigma_defaults(struct sdw_schedule_config *config)
{
    if (!config->timestep_spacing)
        config->timestep_spacing = SDW_SPACING_LINSPACE;
}

static void singlestep_defaults(struct sdw_schedule_config *config)
{
    sigma_defaults(config);
    if (config->lower_order_final < 0)
        config->lower_order_final = 0;
}

static void lcm_defaults(struct sdw_schedule_config *config)
{
    if (config->beta_start < 0)
        config->beta_start = 0.00085;
    if (config->beta_end < 0)
        config->beta_end = 0.012;
    if (!config->beta_schedule)
        config->beta_schedule = SDW_BETA_SCALED_LINEAR;
}

/* Where rows share a class, algorithm and order tell which of them a configuration means. */
const struct sdw_sampler_kind sdw_sampler_kinds[] = {
    {
        .info.name = "ddim",
        .info.title = "DDIM",
        .info.class_name = "DDIMScheduler",
        .info.help = "Deterministic and dependable; what others are measured against.",
        .order = 1,
        .prepare = sdw_prepare_timesteps,
        .step = sdw_ddim_step,
    },
    {
        .info.name = "ddpm",
        .info.title = "DDPM",
        .info.class_name = "DDPMScheduler",
        .info.help = "The original ancestral sampler; wants many steps.",
        .info.stochastic = true,
        .order = 1,
        .prepare = sdw_prepare_timesteps,
        .step = sdw_ddpm_step,
    },
    {
        .info.name = "pndm",
        .info.title = "PLMS",
        .info.class_name = "PNDMScheduler",
        .info.help = "Fourth-order multistep; one evaluation more than steps.",
        .order = 1,
        .slots = 5,
        .defaults = pndm_defaults,
        .prepare = sdw_pndm_prepare,
        .step = sdw_pndm_step,
    },
    {
        .info.name = "euler",
        .info.title = "Euler",
        .info.class_name = "EulerDiscreteScheduler",
        .info.help = "One straight step at a time; simple and good.",
        .info.karras = true,
        .order = 1,
        .ve = true,
        .defaults = sigma_defaults,
        .prepare = sdw_prepare_sigmas,
        .step = sdw_euler_step,
    },
    {
        .info.name = "euler_ancestral",
        .info.title = "Euler a",
        .info.class_name = "EulerAncestralDiscreteScheduler",
        .info.help = "Euler with fresh noise every step; never settles.",
        .info.stochastic = true,
        .info.karras = true,
        .order = 1,
        .ve = true,
        .defaults = sigma_defaults,
        .prepare = sdw_prepare_sigmas,
        .step = sdw_euler_ancestral_step,
    },
    {
        .info.name = "heun",
        .info.title = "Heun",
        .info.class_name = "HeunDiscreteScheduler",
        .info.help = "Euler corrected by a second evaluation; accurate, half as fast.",
        .info.karras = true,
        .order = 2,
        .slots = 2,
        .ve = true,
        .defaults = sigma_defaults,
        .prepare = sdw_heun_prepare,
        .step = sdw_heun_step,
    },
    {
        .info.name = "lms",
        .info.title = "LMS",
        .info.class_name = "LMSDiscreteScheduler",
        .info.help = "Fourth-order multistep on sigmas.",
        .info.karras = true,
        .order = 1,
        .slots = 4,
        .ve = true,
        .defaults = sigma_defaults,
        .prepare = sdw_prepare_sigmas,
        .step = sdw_lms_step,
    },
    {
        .info.name = "dpm2",
        .info.title = "DPM2",
        .info.class_name = "KDPM2DiscreteScheduler",
        .info.help = "Second order by a middle evaluation; accurate, half as fast.",
        .info.karras = true,
        .order = 2,
        .slots = 1,
        .ve = true,
        .defaults = sigma_defaults,
        .prepare = sdw_dpm2_prepare,
        .step = sdw_dpm2_step,
    },
    {
        .info.name = "dpm2_ancestral",
        .info.title = "DPM2 a",
        .info.class_name = "KDPM2AncestralDiscreteScheduler",
        .info.help = "DPM2 with fresh noise every step.",
        .info.stochastic = true,
        .info.karras = true,
        .order = 2,
        .slots = 1,
        .ve = true,
        .defaults = sigma_defaults,
        .prepare = sdw_dpm2_ancestral_prepare,
        .step = sdw_dpm2_ancestral_step,
    },
    {
        .info.name = "dpmpp_2m",
        .info.title = "DPM++ 2M",
        .info.class_name = "DPMSolverMultistepScheduler",
        .info.help =
            "Second-order multistep; the best picture in 15 to 25 steps, above all with karras.",
        .info.karras = true,
        .algorithm = SDW_ALGORITHM_DPMSOLVER_PP,
        .solver_order = 2,
        .order = 1,
        .slots = 3,
        .defaults = sigma_defaults,
        .prepare = sdw_dpmpp_multistep_prepare,
        .step = sdw_dpmpp_multistep_step,
    },
    {
        .info.name = "dpmpp_2m_sde",
        .info.title = "DPM++ 2M SDE",
        .info.class_name = "DPMSolverMultistepScheduler",
        .info.help = "DPM++ 2M with fresh noise every step; rich detail.",
        .info.stochastic = true,
        .info.karras = true,
        .algorithm = SDW_ALGORITHM_SDE_DPMSOLVER_PP,
        .solver_order = 2,
        .order = 1,
        .slots = 3,
        .defaults = sigma_defaults,
        .prepare = sdw_dpmpp_multistep_prepare,
        .step = sdw_dpmpp_multistep_step,
    },
    {
        .info.name = "dpmpp_3m",
        .info.title = "DPM++ 3M",
        .info.class_name = "DPMSolverMultistepScheduler",
        .info.help = "Third-order multistep; for low guidance.",
        .info.karras = true,
        .algorithm = SDW_ALGORITHM_DPMSOLVER_PP,
        .solver_order = 3,
        .order = 1,
        .slots = 3,
        .defaults = sigma_defaults,
        .prepare = sdw_dpmpp_multistep_prepare,
        .step = sdw_dpmpp_multistep_step,
    },
    {
        .info.name = "dpmpp_1",
        .info.title = "DPM++ 1",
        .info.class_name = "DPMSolverMultistepScheduler",
        .info.help = "First order: DDIM's step on the schedules of this family.",
        .info.karras = true,
        .algorithm = SDW_ALGORITHM_DPMSOLVER_PP,
        .solver_order = 1,
        .order = 1,
        .slots = 3,
        .defaults = sigma_defaults,
        .prepare = sdw_dpmpp_multistep_prepare,
        .step = sdw_dpmpp_multistep_step,
    },
    {
        .info.name = "dpmsolver_2m",
        .info.title = "DPM-Solver 2M",
        .info.class_name = "DPMSolverMultistepScheduler",
        .info.help = "The solver before ++, which expands the noise.",
        .info.karras = true,
        .algorithm = SDW_ALGORITHM_DPMSOLVER,
        .solver_order = 2,
        .order = 1,
        .slots = 3,
        .defaults = sigma_defaults,
        .prepare = sdw_dpmpp_multistep_prepare,
        .step = sdw_dpmpp_multistep_step,
    },
    {
        .info.name = "dpmpp_2s",
        .info.title = "DPM++ 2S",
        .info.class_name = "DPMSolverSinglestepScheduler",
        .info.help = "Second order in blocks of two steps.",
        .info.karras = true,
        .order = 1,
        .slots = 4,
        .defaults = singlestep_defaults,
        .prepare = sdw_dpmpp_singlestep_prepare,
        .step = sdw_dpmpp_singlestep_step,
    },
    {
        .info.name = "unipc",
        .info.title = "UniPC",
        .info.class_name = "UniPCMultistepScheduler",
        .info.help = "Predictor and corrector in one; good from 8 steps on.",
        .info.karras = true,
        .order = 1,
        .slots = 4,
        .defaults = sigma_defaults,
        .prepare = sdw_unipc_prepare,
        .step = sdw_unipc_step,
    },
    {
        .info.name = "lcm",
        .info.title = "LCM",
        .info.class_name = "LCMScheduler",
        .info.help = "For models distilled to consistency: 1 to 8 steps, guidance 1.",
        .info.stochastic = true,
        .order = 1,
        .defaults = lcm_defaults,
        .prepare = sdw_lcm_prepare,
        .step = sdw_lcm_step,
    },
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
