/* schedule.h: what a model says about its noise, the fields of scheduler_config.json.
 *
 * A field that the file leaves out stays unset here, and takes the default of the sampler that runs
 * in the end: so diffusers does it when one scheduler is made from another's configuration. */
#ifndef SDW_SAMPLE_SCHEDULE_H
#define SDW_SAMPLE_SCHEDULE_H

#include "base/status.h"

#include <stddef.h>

#define SDW_SCHEDULE_CONFIG_BYTES_MAX (1u << 20)
#define SDW_SCHEDULE_TIMESTEPS_MAX    10000 /* of the training */
#define SDW_SCHEDULE_CLASS_MAX        64

/* 0 is "unset" in every enum, -1 in every number that may be 0, and in switches (else 0 or 1). */
enum sdw_beta_schedule {
    SDW_BETA_UNSET,
    SDW_BETA_LINEAR,
    SDW_BETA_SCALED_LINEAR,
    SDW_BETA_SQUARED_COSINE, /* squaredcos_cap_v2 */
};
enum sdw_prediction {
    SDW_PREDICTION_UNSET,
    SDW_PREDICTION_EPSILON,
    SDW_PREDICTION_V,
    SDW_PREDICTION_SAMPLE,
};
enum sdw_spacing {
    SDW_SPACING_UNSET,
    SDW_SPACING_LEADING,
    SDW_SPACING_TRAILING,
    SDW_SPACING_LINSPACE,
};
enum sdw_algorithm {
    SDW_ALGORITHM_UNSET,
    SDW_ALGORITHM_DPMSOLVER,        /* dpmsolver */
    SDW_ALGORITHM_DPMSOLVER_PP,     /* dpmsolver++ */
    SDW_ALGORITHM_SDE_DPMSOLVER,    /* sde-dpmsolver */
    SDW_ALGORITHM_SDE_DPMSOLVER_PP, /* sde-dpmsolver++ */
};
enum sdw_solver {
    SDW_SOLVER_UNSET,
    SDW_SOLVER_MIDPOINT,
    SDW_SOLVER_HEUN,
    SDW_SOLVER_BH1,
    SDW_SOLVER_BH2,
};
enum sdw_final_sigma {
    SDW_FINAL_SIGMA_UNSET,
    SDW_FINAL_SIGMA_ZERO,
    SDW_FINAL_SIGMA_MIN,
};
enum sdw_variance {
    SDW_VARIANCE_UNSET,
    SDW_VARIANCE_FIXED_SMALL,
    SDW_VARIANCE_FIXED_SMALL_LOG,
    SDW_VARIANCE_FIXED_LARGE,
};

struct sdw_schedule_config {
    char class_name[SDW_SCHEDULE_CLASS_MAX]; /* _class_name; "" when absent */
    int num_train_timesteps;
    double beta_start, beta_end;
    enum sdw_beta_schedule beta_schedule;
    enum sdw_prediction prediction_type;
    enum sdw_spacing timestep_spacing;
    int steps_offset;
    int set_alpha_to_one;
    int clip_sample;
    double clip_sample_range;
    int rescale_betas_zero_snr;
    int use_karras_sigmas;
    int use_lu_lambdas;
    int skip_prk_steps;
    int solver_order;
    enum sdw_algorithm algorithm_type;
    enum sdw_solver solver_type;
    int lower_order_final;
    int euler_at_final;
    enum sdw_final_sigma final_sigmas_type;
    enum sdw_variance variance_type;
    int predict_x0;
    int original_inference_steps;
    double timestep_scaling;
};

/* Every field unset. */
void sdw_schedule_config_init(struct sdw_schedule_config *config);

/* Reads the text of a scheduler_config.json; `path` is for messages only. Unknown keys are ignored;
 * values that no sampler here computes (thresholding, trained_betas, ...) are errors that name
 * them. */
enum sdw_status sdw_schedule_config_parse(struct sdw_schedule_config *config, const char *text,
                                          size_t length, const char *path, struct sdw_error *err);

#endif
