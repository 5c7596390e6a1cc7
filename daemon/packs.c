/* Packs: the rules that the daemon brings, each with its source, and docs/rules.md. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/score.h"
#include "rules.h"

#define LOG_10  2.302585092994046 /* ln 10 (SPEC 9) */
#define LOG_1E4 9.210340371976182 /* ln 1e4, the level monitor's alarm (SPEC 3.6) */

/* Fields that most rules share: at most a dozen notifications an hour. */
#define SHIPPED(n, m, c, t, sev, act, src)                                                         \
    .name = n, .version = 1, .is_enabled = true, .is_builtin = true, .metric = m,                  \
    .comparison = LYAP_CMP_##c, .threshold = t, .severity = LYAP_SEVERITY_##sev,                   \
    .action = LYAP_ACTION_##act, .source = src, .notify_per_hour = 12
/* name, metric, comparison, threshold, clear (NAN: the threshold), for, clear steps, once, min
 * points, severity, action, cause, source. */
#define R(n, m, c, t, cl, f, cs, once, mp, sev, act, why, src)                                     \
    {                                                                                              \
        SHIPPED(n, m, c, t, sev, act, src), .clear = cl, .for_steps = f, .clear_steps = cs,        \
                                            .is_once = once, .min_points = mp, .cause = why        \
    }
/* A rule over every tensor. */
#define T(n, m, c, t, f, cs, mp, sev, act, why, src)                                               \
    {                                                                                              \
        SHIPPED(n, m, c, t, sev, act, src), .clear = NAN, .for_steps = f, .clear_steps = cs,       \
                                            .min_points = mp, .cause = why, .tensor_pattern = "*"  \
    }

static const struct lyap_rule defaults[] = {
    R("nonfinite", "nonfinite", GT, 0, NAN, 1, 5, false, 1, CRITICAL, ROLLBACK, "nonfinite",
      "SPEC 6.4: any non-finite parameter, gradient or loss of a step that was not skipped"),
    R("instability", "instability_score", GE, LYAP_SCORE_DEFAULT, LYAP_SCORE_EARLY, 1, 10, false, 1,
      CRITICAL, REDUCE_LR, "instability",
      "docs/detection.md: the calibrated score at default sensitivity; clears below the early one"),
    R("instability-early", "instability_score", GE, LYAP_SCORE_EARLY, NAN, 1, 10, false, 12, INFO,
      CONTINUE, "instability", "docs/detection.md: the score at early sensitivity, once warm"),
    R("instability-next", "instability_score_next", GE, LYAP_SCORE_DEFAULT, LYAP_SCORE_EARLY, 1, 10,
      false, 1, INFO, CONTINUE, "instability",
      "docs/detection.md: the coming update alone, for jobs that wait for the answer"),
    R("edge", "stability_ratio", GT, 0.95, 0.9, 1, 5, false, 1, INFO, CONTINUE, "edge",
      "SPEC 9: full-batch training lives there"),
    R("limit-crossed", "limit_crossing", GT, 1.2, NAN, 1, 5, false, 1, WARNING, REDUCE_LR,
      "instability",
      "SPEC 9: the ratio rose past 1.2 in one probe together with the learning rate"),
    R("unstable", "unstable_ratio", GT, 1.05, 1, 1, 5, false, 1, CRITICAL, REDUCE_LR, "instability",
      "SPEC 9: past the limit for five probes while the level monitor is in alarm"),
    R("energy-violation", "loss_level_evidence", GE, LOG_1E4, NAN, 1, 16, false, 1, CRITICAL,
      CONTINUE, "instability",
      "SPEC 3.6, 9: level monitor at 1e4; on the training loss class C, so a warning"),
    R("spike", "probe_loss_ratio", GT, 2, 1.5, 1, 3, false, 1, INFO, CONTINUE, "spike",
      "SPEC 9: probe loss above twice its best; happens in healthy runs"),
    R("representation-growth", "empirical_gain_growth", GT, 2, 1.5, 1, 3, false, 1, INFO, CONTINUE,
      "representation-growth",
      "SPEC 9: the gain of pushed perturbed activations doubled within the shortest window"),
    R("inconsistent-data", "inconsistency", GT, 0.1, 0.05, 3, 5, false, 1, WARNING, CONTINUE,
      "inconsistent-data",
      "SPEC 9: loss and gradient are not of the same function; thrice, since one step across the "
      "probe's gradient does next to no work"),
    R("delta-precision", "delta_precision", GT, 0.1, 0.05, 1, 10, false, 1, INFO, CONTINUE,
      "delta-precision", "SPEC 6.2: differences of stored parameters drown in their rounding"),
    R("optimizer-mismatch", "update_identity", GT, 0.05, 0.02, 1, 10, true, 1, WARNING, CONTINUE,
      "optimizer-mismatch", "SPEC 0.1, 9: the update is not the declared optimizer's"),
    R("dead-tensors", "dead_tensors", GT, 0, NAN, 1, 5, false, 1, INFO, CONTINUE, "dead",
      "docs/detection.md: no gradient has reached a tensor for 32 points, while it reached others "
      "(dead ReLUs, an expert without tokens, underflow of half precision; or frozen by zeros)"),
    R("stuck-tensors", "stuck_tensors", GT, 0, NAN, 1, 5, false, 1, WARNING, CONTINUE, "dead",
      "docs/detection.md: 32 updates in a row were too small for the precision of a tensor"),
    R("sensitive", "sensitive_horizon", GT, LOG_10, NAN, 1, 10, false, 1, INFO, CONTINUE,
      "sensitive",
      "SPEC 9: a perturbation as small as rounding grows tenfold before the run ends, which is "
      "then "
      "not reproducible"),
    R("silent-run", "silent_seconds", GT, 600, NAN, 1, 1, false, 0, WARNING, CONTINUE, "silent-run",
      "field practice: no telemetry for ten minutes (Marin, DLRover)"),
    R("late-rank", "missing_ranks", GT, 0, NAN, 1, 5, false, 0, WARNING, CONTINUE, "late-rank",
      "a step was closed without a rank: its point lacks every sum"),
    R("dropped-pushes", "dropped_pushes", GT, 0, NAN, 1, 20, false, 0, WARNING, CONTINUE,
      "dropped-pushes",
      "the client cannot send as fast as it was asked to, or the daemon was away"),
    R("clock-skew", "clock_skew_seconds", GT, 30, NAN, 3, 3, false, 0, WARNING, CONTINUE,
      "clock-skew",
      "the sender's clock is ahead of the daemon's; TLS and tokens tolerate about as much"),
    R("clock-behind", "clock_skew_seconds", LT, -30, NAN, 3, 3, false, 0, WARNING, CONTINUE,
      "clock-skew", "the sender's clock is behind; told from a late push by the time of sending"),
    R("refused-pushes", "refused_pushes", GT, 0, NAN, 1, 120, false, 0, WARNING, CONTINUE,
      "refused-pushes",
      "a push was refused for want of queue, memory or disk; clears after a "
      "minute without one"),
    R("queue-full", "queue_fill", GT, 0.9, 0.5, 4, 20, false, 0, WARNING, CONTINUE,
      "refused-pushes", "the engine has been behind for two seconds; full, pushes are refused"),
    R("disk-low", "disk_headroom", LT, 2, 2.5, 1, 10, false, 0, CRITICAL, CONTINUE, "disk-low",
      "below 1 pushes are refused (disk_reserve): the warning comes at twice that"),
    R("delivery-failing", "delivery_delay_seconds", GT, 300, 60, 1, 10, false, 0, WARNING, CONTINUE,
      "delivery-failing", "as long as the longest wait between two attempts"),
};

/* Amazon SageMaker Debugger's built-in tensor rules under their names, with its defaults of
 * 2023-03;
 * `.scaled` ones compare with the run's own past instead of a constant. docs/migrating.md says what
 * differs, and which rules have no counterpart. */
static const struct lyap_rule sagemaker[] = {
    T("ExplodingTensor", "nonfinite_param + nonfinite_grad", GT, 0, 1, 5, 1, CRITICAL, STOP,
      "nonfinite", "SageMaker Debugger ExplodingTensor: any non-finite value"),
    R("ExplodingTensor.scaled", "grad_norm / median(grad_norm, 128)", GT, 100, 10, 1, 5, false, 65,
      WARNING, REDUCE_LR, "exploding",
      "in place of ExplodingTensor, which a large finite value never meets: a gradient 100 times "
      "its median"),
    T("VanishingGradient", "grad_norm / sqrt(elements)", LT, 1e-7, 1, 5, 1, WARNING, CONTINUE,
      "vanishing",
      "SageMaker Debugger VanishingGradient: mean abs(g) < 1e-7; here the root mean square, which "
      "is "
      "not below the mean"),
    R("VanishingGradient.scaled", "grad_norm / median(grad_norm, 128)", LT, 1e-3, 1e-2, 3, 5, false,
      65, WARNING, CONTINUE, "vanishing", "in place of VanishingGradient: against its own median"),
    T("WeightUpdateRatio", "max(update_ratio / 10, 1e-8 / update_ratio)", GT, 1, 1, 5, 2, WARNING,
      CONTINUE, "update-ratio",
      "SageMaker Debugger WeightUpdateRatio: above 10 or below 1e-8; here of norms"),
    R("WeightUpdateRatio.scaled", "update_ratio / median(update_ratio, 128)", GT, 10, 5, 1, 5,
      false, 65, WARNING, REDUCE_LR, "update-ratio",
      "in place of WeightUpdateRatio: ten times its own median"),
    R("LossNotDecreasing", "(lag(loss, 10) - loss) / abs(lag(loss, 10))", LT, 0.001, NAN, 1, 5,
      false, 11, WARNING, CONTINUE, "loss-not-decreasing",
      "SageMaker Debugger LossNotDecreasing: fall below 0.1 % in 10 steps"),
    R("LossNotDecreasing.scaled", "loss_slope_t", GT, 3, 1, 5, 5, false, 20, WARNING, CONTINUE,
      "loss-not-decreasing",
      "in place of LossNotDecreasing: the slope of the loss is positive by three standard errors"),
    R("Overfit", "(probe_loss - loss) / loss", GT, 0.1, NAN, 1, 5, false, 1, INFO, CONTINUE,
      "overfit",
      "SageMaker Debugger Overfit: (val - train) / train > 0.1, patience 1; push the validation "
      "loss as probe_loss"),
    R("Overtraining", "min(loss - lowest(loss, 5), probe_loss - lowest(probe_loss, 10))", GE, -0.01,
      NAN, 1, 5, false, 11, INFO, CONTINUE, "overfit",
      "SageMaker Debugger Overtraining: no new optimum by 0.01 for 5 training and 10 validation "
      "losses"),
    T("DeadRelu", "zero_fraction", GT, 0.5, 1, 5, 1, INFO, CONTINUE, "dead",
      "SageMaker Debugger DeadRelu: more than 50 % of a layer inactive; here told from the zeros "
      "of the gradient"),
    T("AllZero", "abs_max", LE, 0, 1, 1, 1, INFO, CONTINUE, "dead",
      "SageMaker Debugger AllZero: 100 % zeros"),
    T("UnchangedTensor", "update_norm / (1e-5 * param_norm + 1e-8)", LE, 1, 3, 1, 2, INFO, CONTINUE,
      "dead",
      "SageMaker Debugger UnchangedTensor: allclose (rtol 1e-5, atol 1e-8) over 3 steps; here of "
      "norms"),
    R("StalledTrainingRule", "silent_seconds", GT, 1800, NAN, 1, 1, false, 0, WARNING, CONTINUE,
      "silent-run", "SageMaker Debugger StalledTrainingRule: 1800 s"),
};

/* Public spike detectors. Windows are of the points before the present one and leave non-finite
 * values out, so that one NaN neither hides what follows nor raises it. */
static const struct lyap_rule spikes[] = {
    R("spikes-nonfinite", "nonfinite", GT, 0, NAN, 1, 5, false, 1, CRITICAL, CONTINUE, "nonfinite",
      "NVIDIA/Megatron-LM rerun_state_machine.py, marin loss_spikes.py: NaN has a check of its "
      "own"),
    R("olmo-loss-spike", "(loss - mean(loss, 128)) / sd(loss, 128)", GT, 6, NAN, 1, 5, false, 129,
      WARNING, CONTINUE, "spike",
      "allenai/OLMo-core stability_monitor.py: mean + 6 sd of the last 128, full window"),
    R("olmo-grad-spike", "(grad_norm - mean(grad_norm, 128)) / sd(grad_norm, 128)", GT, 6, NAN, 1,
      5, false, 129, WARNING, CONTINUE, "spike", "the same of the gradient norm"),
    R("olmo-skip-loss", "(loss - mean(loss, 128, 64)) / sd(loss, 128, 64)", GT, 6, NAN, 1, 1, false,
      65, WARNING, SKIP, "spike",
      "allenai/OLMo-core skip_step_optimizer.py: mean + 6 sd of 128, active from 64; skips"),
    R("olmo-skip-grad", "(grad_norm - mean(grad_norm, 128, 64)) / sd(grad_norm, 128, 64)", GT, 6,
      NAN, 1, 1, false, 65, WARNING, SKIP, "spike", "the same of the gradient norm"),
    R("foundry-loss-spike", "loss / mean(loss, 100)", GE, 2, NAN, 5, 5, false, 101, WARNING,
      CONTINUE, "spike",
      "mosaicml/llm-foundry kill_loss_spike_callback.py: twice the mean of 100, 5 in a row"),
    R("foundry-loss-high", "median(loss, 100) / min(first_highest(loss, 100), 10)", GT, 1, NAN, 1,
      5, false, 201, WARNING, CONTINUE, "spike",
      "the same file: half of the window above min(largest of the first window, 10)"),
    R("lightning-loss-spike", "abs(loss - mean(loss, 10, 1)) / mean(loss, 10, 1)", GE, 2, NAN, 1, 1,
      false, 2, WARNING, SKIP, "spike",
      "Lightning-AI/pytorch-lightning fabric/utilities/spike.py: 2 x the mean of 10 away, warm-up "
      "1"),
    R("megatron-loss-spike", "loss / first_highest(loss, 100)", GE, 10, NAN, 1, 5, false, 101,
      CRITICAL, CONTINUE, "spike",
      "NVIDIA/Megatron-LM rerun_state_machine.py: 10 x the largest of the first 100"),
    R("megatron-grad-spike", "grad_norm / first_highest(grad_norm, 100)", GE, 10, NAN, 1, 5, false,
      101, CRITICAL, CONTINUE, "spike", "NVIDIA/Megatron-LM param_and_grad_buffer.py: likewise"),
    R("marin-loss-spike",
      "min(loss, lowest(loss, 4, 4)) - mean(loss, 60, 20, 4) - max(0.05, 6 * sd(loss, 60, 20, 4))",
      GT, 0, NAN, 1, 5, false, 21, WARNING, CONTINUE, "spike",
      "marin-community/marin loss_spikes.py: floor of the last 5 above mean + max(0.05, 6 sd) of "
      "the 60 before them; points in place of minutes"),
    R("marin-grad-norm", "grad_norm", GT, 2, NAN, 5, 5, false, 1, INFO, CONTINUE, "spike",
      "marin hero_health.py: gradient norm above 2"),
    R("entrenar-loss-spike", "loss / mean(loss, 20)", GT, 3, NAN, 1, 5, false, 11, WARNING,
      REDUCE_LR, "spike", "paiml/entrenar#127: 3 x the running mean; here of 20 points"),
    R("adam-second-moment", "second_moment_ratio", GT, 2.3, 2, 1, 5, false, 1, WARNING, CONTINUE,
      "spike", "Wortsman et al. 2023, arXiv 2304.13013: RMS_t above 2.3 before loss spikes"),
};
#undef T
#undef R
#undef SHIPPED

#define PACK(name, title, rules)                                                                   \
    {                                                                                              \
        name, title, rules, sizeof rules / sizeof *rules                                           \
    }
static const struct lyap_pack packs[] = {
    PACK("default", "what lyapd watches unless told otherwise", defaults),
    PACK("sagemaker", "the tensor rules of Amazon SageMaker Debugger", sagemaker),
    PACK("spikes", "public spike detectors, safe against NaN", spikes),
};
#undef PACK

const struct lyap_pack *lyap_packs_get(uint32_t index)
{
    return index < sizeof packs / sizeof *packs ? &packs[index] : NULL;
}

const struct lyap_pack *lyap_packs_find(const char *name)
{
    const struct lyap_pack *pack;
    for (uint32_t i = 0; (pack = lyap_packs_get(i)); i++)
        if (strcmp(pack->name, name) == 0)
            return pack;
    return NULL;
}

const struct lyap_rule *lyap_packs_rule(const char *name)
{
    const struct lyap_pack *pack;
    for (uint32_t i = 0; (pack = lyap_packs_get(i)); i++)
        for (uint32_t j = 0; j < pack->count; j++)
            if (strcmp(pack->rules[j].name, name) == 0)
                return &pack->rules[j];
    return NULL;
}

static void rule_markdown(struct lyap_buffer *text, const struct lyap_rule *rule)
{
    const char *tensors = rule->tensor_pattern[0] ? ", of each tensor" : "";
    lyap_buffer_add(text, "| `%s` | `%s`%s %s %.4g%s | %u | %.4g | %u | %u | %s | %s | %s | %s |\n",
                    rule->name, rule->metric, tensors, lyap_comparison_name(rule->comparison),
                    rule->threshold, rule->is_once ? ", once an attempt" : "", rule->for_steps,
                    isnan(rule->clear) ? rule->threshold : rule->clear, rule->clear_steps,
                    rule->min_points, lyap_severity_name(rule->severity),
                    lyap_action_name(rule->action), lyap_rule_cause(rule), rule->source);
}

static const char introduction[] =
    "# Rules\n\n"
    "Written by `lyapd --docs rules` from the tables in `daemon/packs.c`.\n\n"
    "A rule compares an expression over the metrics of each point (docs/metrics.md), of each "
    "tensor "
    "its pattern matches,\nor a condition (`nonfinite`, `silent_seconds`, and those below) with a "
    "threshold. An alert is pending from the first\npoint that meets the comparison, firing after "
    "`for` such points in a row, resolved after `clear_for` points in a row\non the good side of "
    "`clear`. A point without the value changes nothing: absent is neither good nor bad. NaN is "
    "the\nbusiness of rule `nonfinite` alone. A value of trust class C raises at most a "
    "warning.\n\n"
    "`PUT /v1/rules/{name}` makes a rule or replaces one of these; each PUT is a new version, and "
    "the versions stay readable.\n`DELETE` of a replaced one brings the shipped one back, `DELETE` "
    "of one as it came switches it off (`\"enabled\":true` by\nPUT switches it on again), `DELETE` "
    "of any other rule removes it. Open alerts of a rule that went, or no longer\nselects the run, "
    "resolve. `POST /v1/rules/{name}/replay?run=` says what a rule would have done on a stored "
    "run.\n\n"
    "## Expressions\n\n"
    "`+ - * /`, brackets, numbers, metrics, `abs(x)`, `log(x)`, `sqrt(x)`, `min(x, y)`, `max(x, "
    "y)`, and, of the `n` points\nbefore the present one, `lag(metric, n)`, `mean(metric, n)`, "
    "`sd`, `median`, `lowest`, `highest`; of the first `n` points\nof the attempt "
    "`first_highest(metric, n)`. A window leaves absent and non-finite values and skipped steps "
    "out; it needs\nhalf of its `n` values, or as many as a third argument says, else the value is "
    "absent (`warming-up`); a fourth argument leaves the\nnewest so many points out. The evidence "
    "of an\nalert counts the non-finite values its windows "
    "left "
    "out. With a `tensor` pattern a bare name is a metric of the tensor (or\n`elements`, its "
    "size), and `point.<name>` one of the point; windows are of the point's. When an operand is "
    "absent the\nvalue is, with its reason; division by zero is infinite. The weakest trust class "
    "of the operands is the value's.\nAn expression has at most 240 bytes, 32 operands and "
    "operators, brackets 16 deep; a window at most 4096 points, the windows of\nall rules together "
    "262 144 values.\n\n"
    "## Life of an alert\n\n"
    "- **Key**: run, attempt, rule, tensor: there is one open alert of each. It survives restarts "
    "of the daemon. When the run\n  opens a new attempt or ends, it resolves.\n"
    "- **Group**: open alerts of one run, attempt and `cause` (the rule's name unless it says "
    "otherwise) notify as one: the first\n  that fires does, the others are `held: grouped` unless "
    "they are more severe. The group's end is told when its last\n  alert resolves. "
    "Who is told is what the first one's rule says (`notify`).\n"
    "- **Cooldown**: for so many steps, or seconds, after an alert resolved no new one of that "
    "rule "
    "and tensor opens.\n"
    "- **Rate limit**: `notify_per_hour` of a rule and run; what is above is `held: rate-limited` "
    "and told when the hour is over\n  and it still fires.\n"
    "- **Silence**: the alert lives on, says `silenced_until`, and tells nobody; when the silence "
    "ends while it fires, it is\n  told then.\n"
    "- **Acknowledged**: until the acknowledgement ends nobody is told again, also not when a "
    "silence or an hour is over; the\n  resolution is still told. (An Alertmanager that has the "
    "alert goes on by its own intervals.)\n";

static void conditions_markdown(struct lyap_buffer *text)
{
    lyap_buffer_add(text, "\n## Conditions\n\n"
                          "| condition | what | looked at |\n|---|---|---|\n"
                          "| `nonfinite` | non-finite elements and losses | at each point |\n"
                          "| `silent_seconds` | time since the last push of a run that has not "
                          "ended | twice a second |\n");
    for (int i = 0; i < LYAP_CONDITION_COUNT; i++) {
        const enum lyap_condition condition = (enum lyap_condition)i;
        lyap_buffer_add(text, "| `%s` | %s | %s |\n", lyap_condition_name(condition),
                        lyap_condition_formula(condition),
                        lyap_condition_is_own(condition) ? "twice a second, of the daemon itself"
                                                         : "at each point");
    }
    lyap_buffer_add(text, "\nAlerts of the daemon itself have `run`, `attempt` and steps null; "
                          "`for` and `clear_for` count looks. Conditions are\nnot stored with the "
                          "points: a replay finds them absent.\n");
}

void lyap_rules_markdown(struct lyap_buffer *text)
{
    lyap_buffer_add(text, "%s", introduction);
    conditions_markdown(text);
    const struct lyap_pack *pack;
    for (uint32_t i = 0; (pack = lyap_packs_get(i)); i++) {
        lyap_buffer_add(text,
                        "\n## Pack `%s`: %s\n\n%s"
                        "| rule | fires when | for | clears at | after | from point | severity | "
                        "action | cause | source |\n"
                        "|---|---|---|---|---|---|---|---|---|---|\n",
                        pack->name, pack->title,
                        i ? "Off until `PUT /v1/packs/{pack} {\"enabled\":true}`.\n\n" : "");
        for (uint32_t j = 0; j < pack->count; j++)
            rule_markdown(text, &pack->rules[j]);
    }
}
