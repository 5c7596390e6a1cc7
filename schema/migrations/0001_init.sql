-- Version 1: runs, points and their roll-ups, tensors, events, rules, alerts.
-- Times are nanoseconds since 1970 (UTC). NULL in a metric column: absent; why stands in
-- `annotations`; or NaN, then the metric is listed in `nan_metrics`. Infinities are REAL values.

CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT UNIQUE, -- NULL: deleted, its rows are being removed
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    attempt INTEGER NOT NULL, -- the current one
    state TEXT NOT NULL,
    verdict TEXT NOT NULL,
    action TEXT NOT NULL,
    action_lr REAL,
    action_reason TEXT,
    action_step INTEGER, -- of skip and rollback
    rollbacks INTEGER NOT NULL DEFAULT 0, -- advised and followed, of the budget
    retention TEXT NOT NULL,
    sketch_seed INTEGER NOT NULL, -- the bits of an unsigned 64-bit number
    last_step INTEGER, -- NULL: none yet
    declaration TEXT NOT NULL, -- JSON as declared
    labels TEXT NOT NULL -- JSON object of strings
);

-- The labels of runs, one a row, kept by the triggers below.
CREATE TABLE run_labels (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    PRIMARY KEY (key, value, run_id)
) WITHOUT ROWID;
CREATE INDEX run_labels_by_run ON run_labels(run_id);

CREATE TRIGGER runs_labels_inserted AFTER INSERT ON runs BEGIN
    INSERT INTO run_labels(key, value, run_id)
        SELECT key, value, new.id FROM json_each(new.labels);
END;
CREATE TRIGGER runs_labels_updated AFTER UPDATE OF labels ON runs
    WHEN old.labels <> new.labels BEGIN
    DELETE FROM run_labels WHERE run_id = new.id;
    INSERT INTO run_labels(key, value, run_id)
        SELECT key, value, new.id FROM json_each(new.labels);
END;

CREATE TABLE attempts (
    run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    key TEXT NOT NULL, -- attempt_key; empty for the first
    started_ns INTEGER NOT NULL,
    ended_ns INTEGER, -- NULL: current
    first_step INTEGER,
    last_step INTEGER,
    reference_loss REAL,
    healthy_lr REAL, -- of the attempt that was gone back from; lib/include/lyap/advice.h
    oldest_ns INTEGER, -- time of the oldest point that can be pruned
    pruned_step INTEGER NOT NULL DEFAULT 0, -- points below it were pruned, their roll-ups stay
    PRIMARY KEY (run_id, attempt)
) WITHOUT ROWID;
CREATE INDEX attempts_by_age ON attempts(oldest_ns) WHERE oldest_ns IS NOT NULL;

CREATE TABLE tensors (
    run_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    tensor INTEGER NOT NULL, -- index in declared order
    name TEXT NOT NULL,
    shape TEXT NOT NULL, -- JSON array
    PRIMARY KEY (run_id, attempt, tensor),
    UNIQUE (run_id, attempt, name),
    FOREIGN KEY (run_id, attempt) REFERENCES attempts(run_id, attempt) ON DELETE CASCADE
) WITHOUT ROWID;

-- Why metrics of a point are absent, and trust classes that differ from the metric's own; each
-- distinct text once: {"sharpness": "no-probe", "update_norm": "C"}.
CREATE TABLE annotations (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    text TEXT NOT NULL,
    UNIQUE (run_id, text)
);

-- One row per step. `<metric>_error` is the half-width of the metric's stated uncertainty.
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    verdict TEXT NOT NULL,
    action TEXT NOT NULL,
    action_lr REAL,
    action_reason TEXT,
    action_step INTEGER, -- of skip and rollback
    is_event_only INTEGER NOT NULL, -- non-finite or skipped: never in a window
    is_gap INTEGER NOT NULL, -- steps before this one were not pushed
    labels TEXT, -- JSON object of the x-... labels
    twin_names TEXT, -- comma list: whose values twin_log ... twin_log_4 are; NULL: no twin
    annotation INTEGER, -- annotations.id; NULL: every metric is there, in its own trust class
    nan_metrics TEXT, -- comma list of metrics that are NaN
    parts BLOB, -- what the scores are made of (docs/storage.md); NULL: there is no score
    -- metrics: value
    loss REAL,
    lr REAL,
    probe_loss REAL,
    param_norm REAL,
    grad_norm REAL,
    update_norm REAL,
    update_ratio REAL,
    grad_cosine REAL,
    update_cosine REAL,
    curvature_along_step REAL,
    secant_curvature REAL,
    update_norm_p REAL,
    sharpness REAL,
    sharpness_residual REAL,
    visited_curvature REAL,
    stability_limit REAL,
    stability_ratio REAL,
    transition_rate REAL,
    edge_ratio REAL,
    batch_sharpness REAL,
    noise_fraction REAL,
    spectral_norm REAL,
    spectral_residual REAL,
    spectral_norm_upper REAL,
    work_residual REAL,
    curvature_of_loss REAL,
    net_work REAL,
    overshoot_work REAL,
    predicted_decrease REAL,
    predicted_change REAL,
    dissipation_residual REAL,
    dissipation_window REAL,
    smoothness_residual REAL,
    energy REAL,
    energy_change REAL,
    energy_bound REAL,
    energy_scale REAL,
    sufficient_decrease REAL,
    relative_error REAL,
    loss_level_evidence REAL,
    update_identity REAL,
    delta_precision REAL,
    progress_scale REAL,
    loss_excess REAL,
    loss_spread REAL,
    loss_ratio REAL,
    loss_slope REAL,
    loss_slope_t REAL,
    net_work_sum REAL,
    second_moment_ratio REAL,
    update_z REAL,
    update_z_median REAL,
    grad_z REAL,
    grad_z_median REAL,
    instability_score REAL,
    instability_score_next REAL,
    limit_crossing REAL,
    unstable_ratio REAL,
    probe_loss_ratio REAL,
    inconsistency REAL,
    update_gain REAL,
    update_gain_frozen REAL,
    update_gain_total REAL,
    update_gain_p50 REAL,
    update_gain_p99 REAL,
    flip_fraction REAL,
    flip_bound REAL,
    curvature_min REAL,
    ritz_asymmetry REAL,
    decay_curvature REAL,
    rate_at_lambda_min REAL,
    mode_energy_gain REAL,
    mode_energy_rate REAL,
    mean_square_gain REAL,
    anchor_energy REAL,
    anchor_energy_change REAL,
    energy_drift REAL,
    drift_evidence REAL,
    forward_bound REAL,
    forward_bound_local REAL,
    residual_gain REAL,
    cfl_margin REAL,
    empirical_gain REAL,
    empirical_gain_growth REAL,
    twin_log REAL,
    twin_log_2 REAL,
    twin_log_3 REAL,
    twin_log_4 REAL,
    twin_rate REAL,
    twin_growth REAL,
    twin_active_rate REAL,
    window_verdict REAL,
    active_verdict REAL,
    sensitive_horizon REAL,
    update_growth REAL,
    block_share REAL,
    coordinate_share REAL,
    dead_tensors REAL,
    stuck_tensors REAL,
    nonfinite_param REAL,
    nonfinite_grad REAL,
    -- end
    -- metrics: error
    loss_error REAL,
    lr_error REAL,
    probe_loss_error REAL,
    param_norm_error REAL,
    grad_norm_error REAL,
    update_norm_error REAL,
    update_ratio_error REAL,
    grad_cosine_error REAL,
    update_cosine_error REAL,
    curvature_along_step_error REAL,
    secant_curvature_error REAL,
    update_norm_p_error REAL,
    sharpness_error REAL,
    sharpness_residual_error REAL,
    visited_curvature_error REAL,
    stability_limit_error REAL,
    stability_ratio_error REAL,
    transition_rate_error REAL,
    edge_ratio_error REAL,
    batch_sharpness_error REAL,
    noise_fraction_error REAL,
    spectral_norm_error REAL,
    spectral_residual_error REAL,
    spectral_norm_upper_error REAL,
    work_residual_error REAL,
    curvature_of_loss_error REAL,
    net_work_error REAL,
    overshoot_work_error REAL,
    predicted_decrease_error REAL,
    predicted_change_error REAL,
    dissipation_residual_error REAL,
    dissipation_window_error REAL,
    smoothness_residual_error REAL,
    energy_error REAL,
    energy_change_error REAL,
    energy_bound_error REAL,
    energy_scale_error REAL,
    sufficient_decrease_error REAL,
    relative_error_error REAL,
    loss_level_evidence_error REAL,
    update_identity_error REAL,
    delta_precision_error REAL,
    progress_scale_error REAL,
    loss_excess_error REAL,
    loss_spread_error REAL,
    loss_ratio_error REAL,
    loss_slope_error REAL,
    loss_slope_t_error REAL,
    net_work_sum_error REAL,
    second_moment_ratio_error REAL,
    update_z_error REAL,
    update_z_median_error REAL,
    grad_z_error REAL,
    grad_z_median_error REAL,
    instability_score_error REAL,
    instability_score_next_error REAL,
    limit_crossing_error REAL,
    unstable_ratio_error REAL,
    probe_loss_ratio_error REAL,
    inconsistency_error REAL,
    update_gain_error REAL,
    update_gain_frozen_error REAL,
    update_gain_total_error REAL,
    update_gain_p50_error REAL,
    update_gain_p99_error REAL,
    flip_fraction_error REAL,
    flip_bound_error REAL,
    curvature_min_error REAL,
    ritz_asymmetry_error REAL,
    decay_curvature_error REAL,
    rate_at_lambda_min_error REAL,
    mode_energy_gain_error REAL,
    mode_energy_rate_error REAL,
    mean_square_gain_error REAL,
    anchor_energy_error REAL,
    anchor_energy_change_error REAL,
    energy_drift_error REAL,
    drift_evidence_error REAL,
    forward_bound_error REAL,
    forward_bound_local_error REAL,
    residual_gain_error REAL,
    cfl_margin_error REAL,
    empirical_gain_error REAL,
    empirical_gain_growth_error REAL,
    twin_log_error REAL,
    twin_log_2_error REAL,
    twin_log_3_error REAL,
    twin_log_4_error REAL,
    twin_rate_error REAL,
    twin_growth_error REAL,
    twin_active_rate_error REAL,
    window_verdict_error REAL,
    active_verdict_error REAL,
    sensitive_horizon_error REAL,
    update_growth_error REAL,
    block_share_error REAL,
    coordinate_share_error REAL,
    dead_tensors_error REAL,
    stuck_tensors_error REAL,
    nonfinite_param_error REAL,
    nonfinite_grad_error REAL,
    -- end
    UNIQUE (run_id, attempt, step),
    FOREIGN KEY (run_id, attempt) REFERENCES attempts(run_id, attempt) ON DELETE CASCADE
);

-- One row per tensor of a step; on which steps they are written docs/storage.md says. No foreign
-- key: there are many rows, and prune and delete take them with the points of their steps.
CREATE TABLE tensor_points (
    run_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    tensor INTEGER NOT NULL, -- tensors.tensor
    -- metrics: tensor
    param_norm REAL,
    grad_norm REAL,
    update_norm REAL,
    update_ratio REAL,
    grad_cosine REAL,
    abs_max REAL,
    zero_fraction REAL,
    nonfinite_param REAL,
    nonfinite_grad REAL,
    curvature_share REAL,
    second_moment_ratio REAL,
    empirical_gain REAL,
    update_z REAL,
    grad_z REAL,
    spectral_norm REAL,
    spectral_norm_error REAL,
    spectral_residual REAL,
    spectral_norm_upper REAL,
    update_gain REAL,
    dead_points REAL,
    stuck_points REAL,
    -- end
    PRIMARY KEY (run_id, attempt, step, tensor)
) WITHOUT ROWID;

-- Bins of 8^level steps: bin b holds steps b * 8^level .. (b + 1) * 8^level - 1 and is written when
-- a later step arrives. Statistics are over the values that are there and not NaN; `_count` of
-- them, and `_nans` NaN values (NULL: none). They outlive pruned points.
CREATE TABLE rollups (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    level INTEGER NOT NULL,
    bin INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    last_ns INTEGER NOT NULL, -- time of the last point
    points INTEGER NOT NULL,
    -- metrics: rollup
    loss_min REAL, loss_max REAL, loss_mean REAL, loss_last REAL, loss_count INTEGER, loss_nans INTEGER,
    lr_min REAL, lr_max REAL, lr_mean REAL, lr_last REAL, lr_count INTEGER, lr_nans INTEGER,
    probe_loss_min REAL, probe_loss_max REAL, probe_loss_mean REAL, probe_loss_last REAL, probe_loss_count INTEGER, probe_loss_nans INTEGER,
    param_norm_min REAL, param_norm_max REAL, param_norm_mean REAL, param_norm_last REAL, param_norm_count INTEGER, param_norm_nans INTEGER,
    grad_norm_min REAL, grad_norm_max REAL, grad_norm_mean REAL, grad_norm_last REAL, grad_norm_count INTEGER, grad_norm_nans INTEGER,
    update_norm_min REAL, update_norm_max REAL, update_norm_mean REAL, update_norm_last REAL, update_norm_count INTEGER, update_norm_nans INTEGER,
    update_ratio_min REAL, update_ratio_max REAL, update_ratio_mean REAL, update_ratio_last REAL, update_ratio_count INTEGER, update_ratio_nans INTEGER,
    grad_cosine_min REAL, grad_cosine_max REAL, grad_cosine_mean REAL, grad_cosine_last REAL, grad_cosine_count INTEGER, grad_cosine_nans INTEGER,
    update_cosine_min REAL, update_cosine_max REAL, update_cosine_mean REAL, update_cosine_last REAL, update_cosine_count INTEGER, update_cosine_nans INTEGER,
    curvature_along_step_min REAL, curvature_along_step_max REAL, curvature_along_step_mean REAL, curvature_along_step_last REAL, curvature_along_step_count INTEGER, curvature_along_step_nans INTEGER,
    secant_curvature_min REAL, secant_curvature_max REAL, secant_curvature_mean REAL, secant_curvature_last REAL, secant_curvature_count INTEGER, secant_curvature_nans INTEGER,
    update_norm_p_min REAL, update_norm_p_max REAL, update_norm_p_mean REAL, update_norm_p_last REAL, update_norm_p_count INTEGER, update_norm_p_nans INTEGER,
    sharpness_min REAL, sharpness_max REAL, sharpness_mean REAL, sharpness_last REAL, sharpness_count INTEGER, sharpness_nans INTEGER,
    sharpness_residual_min REAL, sharpness_residual_max REAL, sharpness_residual_mean REAL, sharpness_residual_last REAL, sharpness_residual_count INTEGER, sharpness_residual_nans INTEGER,
    visited_curvature_min REAL, visited_curvature_max REAL, visited_curvature_mean REAL, visited_curvature_last REAL, visited_curvature_count INTEGER, visited_curvature_nans INTEGER,
    stability_limit_min REAL, stability_limit_max REAL, stability_limit_mean REAL, stability_limit_last REAL, stability_limit_count INTEGER, stability_limit_nans INTEGER,
    stability_ratio_min REAL, stability_ratio_max REAL, stability_ratio_mean REAL, stability_ratio_last REAL, stability_ratio_count INTEGER, stability_ratio_nans INTEGER,
    transition_rate_min REAL, transition_rate_max REAL, transition_rate_mean REAL, transition_rate_last REAL, transition_rate_count INTEGER, transition_rate_nans INTEGER,
    edge_ratio_min REAL, edge_ratio_max REAL, edge_ratio_mean REAL, edge_ratio_last REAL, edge_ratio_count INTEGER, edge_ratio_nans INTEGER,
    batch_sharpness_min REAL, batch_sharpness_max REAL, batch_sharpness_mean REAL, batch_sharpness_last REAL, batch_sharpness_count INTEGER, batch_sharpness_nans INTEGER,
    noise_fraction_min REAL, noise_fraction_max REAL, noise_fraction_mean REAL, noise_fraction_last REAL, noise_fraction_count INTEGER, noise_fraction_nans INTEGER,
    spectral_norm_min REAL, spectral_norm_max REAL, spectral_norm_mean REAL, spectral_norm_last REAL, spectral_norm_count INTEGER, spectral_norm_nans INTEGER,
    spectral_residual_min REAL, spectral_residual_max REAL, spectral_residual_mean REAL, spectral_residual_last REAL, spectral_residual_count INTEGER, spectral_residual_nans INTEGER,
    spectral_norm_upper_min REAL, spectral_norm_upper_max REAL, spectral_norm_upper_mean REAL, spectral_norm_upper_last REAL, spectral_norm_upper_count INTEGER, spectral_norm_upper_nans INTEGER,
    work_residual_min REAL, work_residual_max REAL, work_residual_mean REAL, work_residual_last REAL, work_residual_count INTEGER, work_residual_nans INTEGER,
    curvature_of_loss_min REAL, curvature_of_loss_max REAL, curvature_of_loss_mean REAL, curvature_of_loss_last REAL, curvature_of_loss_count INTEGER, curvature_of_loss_nans INTEGER,
    net_work_min REAL, net_work_max REAL, net_work_mean REAL, net_work_last REAL, net_work_count INTEGER, net_work_nans INTEGER,
    overshoot_work_min REAL, overshoot_work_max REAL, overshoot_work_mean REAL, overshoot_work_last REAL, overshoot_work_count INTEGER, overshoot_work_nans INTEGER,
    predicted_decrease_min REAL, predicted_decrease_max REAL, predicted_decrease_mean REAL, predicted_decrease_last REAL, predicted_decrease_count INTEGER, predicted_decrease_nans INTEGER,
    predicted_change_min REAL, predicted_change_max REAL, predicted_change_mean REAL, predicted_change_last REAL, predicted_change_count INTEGER, predicted_change_nans INTEGER,
    dissipation_residual_min REAL, dissipation_residual_max REAL, dissipation_residual_mean REAL, dissipation_residual_last REAL, dissipation_residual_count INTEGER, dissipation_residual_nans INTEGER,
    dissipation_window_min REAL, dissipation_window_max REAL, dissipation_window_mean REAL, dissipation_window_last REAL, dissipation_window_count INTEGER, dissipation_window_nans INTEGER,
    smoothness_residual_min REAL, smoothness_residual_max REAL, smoothness_residual_mean REAL, smoothness_residual_last REAL, smoothness_residual_count INTEGER, smoothness_residual_nans INTEGER,
    energy_min REAL, energy_max REAL, energy_mean REAL, energy_last REAL, energy_count INTEGER, energy_nans INTEGER,
    energy_change_min REAL, energy_change_max REAL, energy_change_mean REAL, energy_change_last REAL, energy_change_count INTEGER, energy_change_nans INTEGER,
    energy_bound_min REAL, energy_bound_max REAL, energy_bound_mean REAL, energy_bound_last REAL, energy_bound_count INTEGER, energy_bound_nans INTEGER,
    energy_scale_min REAL, energy_scale_max REAL, energy_scale_mean REAL, energy_scale_last REAL, energy_scale_count INTEGER, energy_scale_nans INTEGER,
    sufficient_decrease_min REAL, sufficient_decrease_max REAL, sufficient_decrease_mean REAL, sufficient_decrease_last REAL, sufficient_decrease_count INTEGER, sufficient_decrease_nans INTEGER,
    relative_error_min REAL, relative_error_max REAL, relative_error_mean REAL, relative_error_last REAL, relative_error_count INTEGER, relative_error_nans INTEGER,
    loss_level_evidence_min REAL, loss_level_evidence_max REAL, loss_level_evidence_mean REAL, loss_level_evidence_last REAL, loss_level_evidence_count INTEGER, loss_level_evidence_nans INTEGER,
    update_identity_min REAL, update_identity_max REAL, update_identity_mean REAL, update_identity_last REAL, update_identity_count INTEGER, update_identity_nans INTEGER,
    delta_precision_min REAL, delta_precision_max REAL, delta_precision_mean REAL, delta_precision_last REAL, delta_precision_count INTEGER, delta_precision_nans INTEGER,
    progress_scale_min REAL, progress_scale_max REAL, progress_scale_mean REAL, progress_scale_last REAL, progress_scale_count INTEGER, progress_scale_nans INTEGER,
    loss_excess_min REAL, loss_excess_max REAL, loss_excess_mean REAL, loss_excess_last REAL, loss_excess_count INTEGER, loss_excess_nans INTEGER,
    loss_spread_min REAL, loss_spread_max REAL, loss_spread_mean REAL, loss_spread_last REAL, loss_spread_count INTEGER, loss_spread_nans INTEGER,
    loss_ratio_min REAL, loss_ratio_max REAL, loss_ratio_mean REAL, loss_ratio_last REAL, loss_ratio_count INTEGER, loss_ratio_nans INTEGER,
    loss_slope_min REAL, loss_slope_max REAL, loss_slope_mean REAL, loss_slope_last REAL, loss_slope_count INTEGER, loss_slope_nans INTEGER,
    loss_slope_t_min REAL, loss_slope_t_max REAL, loss_slope_t_mean REAL, loss_slope_t_last REAL, loss_slope_t_count INTEGER, loss_slope_t_nans INTEGER,
    net_work_sum_min REAL, net_work_sum_max REAL, net_work_sum_mean REAL, net_work_sum_last REAL, net_work_sum_count INTEGER, net_work_sum_nans INTEGER,
    second_moment_ratio_min REAL, second_moment_ratio_max REAL, second_moment_ratio_mean REAL, second_moment_ratio_last REAL, second_moment_ratio_count INTEGER, second_moment_ratio_nans INTEGER,
    update_z_min REAL, update_z_max REAL, update_z_mean REAL, update_z_last REAL, update_z_count INTEGER, update_z_nans INTEGER,
    update_z_median_min REAL, update_z_median_max REAL, update_z_median_mean REAL, update_z_median_last REAL, update_z_median_count INTEGER, update_z_median_nans INTEGER,
    grad_z_min REAL, grad_z_max REAL, grad_z_mean REAL, grad_z_last REAL, grad_z_count INTEGER, grad_z_nans INTEGER,
    grad_z_median_min REAL, grad_z_median_max REAL, grad_z_median_mean REAL, grad_z_median_last REAL, grad_z_median_count INTEGER, grad_z_median_nans INTEGER,
    instability_score_min REAL, instability_score_max REAL, instability_score_mean REAL, instability_score_last REAL, instability_score_count INTEGER, instability_score_nans INTEGER,
    instability_score_next_min REAL, instability_score_next_max REAL, instability_score_next_mean REAL, instability_score_next_last REAL, instability_score_next_count INTEGER, instability_score_next_nans INTEGER,
    limit_crossing_min REAL, limit_crossing_max REAL, limit_crossing_mean REAL, limit_crossing_last REAL, limit_crossing_count INTEGER, limit_crossing_nans INTEGER,
    unstable_ratio_min REAL, unstable_ratio_max REAL, unstable_ratio_mean REAL, unstable_ratio_last REAL, unstable_ratio_count INTEGER, unstable_ratio_nans INTEGER,
    probe_loss_ratio_min REAL, probe_loss_ratio_max REAL, probe_loss_ratio_mean REAL, probe_loss_ratio_last REAL, probe_loss_ratio_count INTEGER, probe_loss_ratio_nans INTEGER,
    inconsistency_min REAL, inconsistency_max REAL, inconsistency_mean REAL, inconsistency_last REAL, inconsistency_count INTEGER, inconsistency_nans INTEGER,
    update_gain_min REAL, update_gain_max REAL, update_gain_mean REAL, update_gain_last REAL, update_gain_count INTEGER, update_gain_nans INTEGER,
    update_gain_frozen_min REAL, update_gain_frozen_max REAL, update_gain_frozen_mean REAL, update_gain_frozen_last REAL, update_gain_frozen_count INTEGER, update_gain_frozen_nans INTEGER,
    update_gain_total_min REAL, update_gain_total_max REAL, update_gain_total_mean REAL, update_gain_total_last REAL, update_gain_total_count INTEGER, update_gain_total_nans INTEGER,
    update_gain_p50_min REAL, update_gain_p50_max REAL, update_gain_p50_mean REAL, update_gain_p50_last REAL, update_gain_p50_count INTEGER, update_gain_p50_nans INTEGER,
    update_gain_p99_min REAL, update_gain_p99_max REAL, update_gain_p99_mean REAL, update_gain_p99_last REAL, update_gain_p99_count INTEGER, update_gain_p99_nans INTEGER,
    flip_fraction_min REAL, flip_fraction_max REAL, flip_fraction_mean REAL, flip_fraction_last REAL, flip_fraction_count INTEGER, flip_fraction_nans INTEGER,
    flip_bound_min REAL, flip_bound_max REAL, flip_bound_mean REAL, flip_bound_last REAL, flip_bound_count INTEGER, flip_bound_nans INTEGER,
    curvature_min_min REAL, curvature_min_max REAL, curvature_min_mean REAL, curvature_min_last REAL, curvature_min_count INTEGER, curvature_min_nans INTEGER,
    ritz_asymmetry_min REAL, ritz_asymmetry_max REAL, ritz_asymmetry_mean REAL, ritz_asymmetry_last REAL, ritz_asymmetry_count INTEGER, ritz_asymmetry_nans INTEGER,
    decay_curvature_min REAL, decay_curvature_max REAL, decay_curvature_mean REAL, decay_curvature_last REAL, decay_curvature_count INTEGER, decay_curvature_nans INTEGER,
    rate_at_lambda_min_min REAL, rate_at_lambda_min_max REAL, rate_at_lambda_min_mean REAL, rate_at_lambda_min_last REAL, rate_at_lambda_min_count INTEGER, rate_at_lambda_min_nans INTEGER,
    mode_energy_gain_min REAL, mode_energy_gain_max REAL, mode_energy_gain_mean REAL, mode_energy_gain_last REAL, mode_energy_gain_count INTEGER, mode_energy_gain_nans INTEGER,
    mode_energy_rate_min REAL, mode_energy_rate_max REAL, mode_energy_rate_mean REAL, mode_energy_rate_last REAL, mode_energy_rate_count INTEGER, mode_energy_rate_nans INTEGER,
    mean_square_gain_min REAL, mean_square_gain_max REAL, mean_square_gain_mean REAL, mean_square_gain_last REAL, mean_square_gain_count INTEGER, mean_square_gain_nans INTEGER,
    anchor_energy_min REAL, anchor_energy_max REAL, anchor_energy_mean REAL, anchor_energy_last REAL, anchor_energy_count INTEGER, anchor_energy_nans INTEGER,
    anchor_energy_change_min REAL, anchor_energy_change_max REAL, anchor_energy_change_mean REAL, anchor_energy_change_last REAL, anchor_energy_change_count INTEGER, anchor_energy_change_nans INTEGER,
    energy_drift_min REAL, energy_drift_max REAL, energy_drift_mean REAL, energy_drift_last REAL, energy_drift_count INTEGER, energy_drift_nans INTEGER,
    drift_evidence_min REAL, drift_evidence_max REAL, drift_evidence_mean REAL, drift_evidence_last REAL, drift_evidence_count INTEGER, drift_evidence_nans INTEGER,
    forward_bound_min REAL, forward_bound_max REAL, forward_bound_mean REAL, forward_bound_last REAL, forward_bound_count INTEGER, forward_bound_nans INTEGER,
    forward_bound_local_min REAL, forward_bound_local_max REAL, forward_bound_local_mean REAL, forward_bound_local_last REAL, forward_bound_local_count INTEGER, forward_bound_local_nans INTEGER,
    residual_gain_min REAL, residual_gain_max REAL, residual_gain_mean REAL, residual_gain_last REAL, residual_gain_count INTEGER, residual_gain_nans INTEGER,
    cfl_margin_min REAL, cfl_margin_max REAL, cfl_margin_mean REAL, cfl_margin_last REAL, cfl_margin_count INTEGER, cfl_margin_nans INTEGER,
    empirical_gain_min REAL, empirical_gain_max REAL, empirical_gain_mean REAL, empirical_gain_last REAL, empirical_gain_count INTEGER, empirical_gain_nans INTEGER,
    empirical_gain_growth_min REAL, empirical_gain_growth_max REAL, empirical_gain_growth_mean REAL, empirical_gain_growth_last REAL, empirical_gain_growth_count INTEGER, empirical_gain_growth_nans INTEGER,
    twin_log_min REAL, twin_log_max REAL, twin_log_mean REAL, twin_log_last REAL, twin_log_count INTEGER, twin_log_nans INTEGER,
    twin_log_2_min REAL, twin_log_2_max REAL, twin_log_2_mean REAL, twin_log_2_last REAL, twin_log_2_count INTEGER, twin_log_2_nans INTEGER,
    twin_log_3_min REAL, twin_log_3_max REAL, twin_log_3_mean REAL, twin_log_3_last REAL, twin_log_3_count INTEGER, twin_log_3_nans INTEGER,
    twin_log_4_min REAL, twin_log_4_max REAL, twin_log_4_mean REAL, twin_log_4_last REAL, twin_log_4_count INTEGER, twin_log_4_nans INTEGER,
    twin_rate_min REAL, twin_rate_max REAL, twin_rate_mean REAL, twin_rate_last REAL, twin_rate_count INTEGER, twin_rate_nans INTEGER,
    twin_growth_min REAL, twin_growth_max REAL, twin_growth_mean REAL, twin_growth_last REAL, twin_growth_count INTEGER, twin_growth_nans INTEGER,
    twin_active_rate_min REAL, twin_active_rate_max REAL, twin_active_rate_mean REAL, twin_active_rate_last REAL, twin_active_rate_count INTEGER, twin_active_rate_nans INTEGER,
    window_verdict_min REAL, window_verdict_max REAL, window_verdict_mean REAL, window_verdict_last REAL, window_verdict_count INTEGER, window_verdict_nans INTEGER,
    active_verdict_min REAL, active_verdict_max REAL, active_verdict_mean REAL, active_verdict_last REAL, active_verdict_count INTEGER, active_verdict_nans INTEGER,
    sensitive_horizon_min REAL, sensitive_horizon_max REAL, sensitive_horizon_mean REAL, sensitive_horizon_last REAL, sensitive_horizon_count INTEGER, sensitive_horizon_nans INTEGER,
    update_growth_min REAL, update_growth_max REAL, update_growth_mean REAL, update_growth_last REAL, update_growth_count INTEGER, update_growth_nans INTEGER,
    block_share_min REAL, block_share_max REAL, block_share_mean REAL, block_share_last REAL, block_share_count INTEGER, block_share_nans INTEGER,
    coordinate_share_min REAL, coordinate_share_max REAL, coordinate_share_mean REAL, coordinate_share_last REAL, coordinate_share_count INTEGER, coordinate_share_nans INTEGER,
    dead_tensors_min REAL, dead_tensors_max REAL, dead_tensors_mean REAL, dead_tensors_last REAL, dead_tensors_count INTEGER, dead_tensors_nans INTEGER,
    stuck_tensors_min REAL, stuck_tensors_max REAL, stuck_tensors_mean REAL, stuck_tensors_last REAL, stuck_tensors_count INTEGER, stuck_tensors_nans INTEGER,
    nonfinite_param_min REAL, nonfinite_param_max REAL, nonfinite_param_mean REAL, nonfinite_param_last REAL, nonfinite_param_count INTEGER, nonfinite_param_nans INTEGER,
    nonfinite_grad_min REAL, nonfinite_grad_max REAL, nonfinite_grad_mean REAL, nonfinite_grad_last REAL, nonfinite_grad_count INTEGER, nonfinite_grad_nans INTEGER,
    -- end
    UNIQUE (run_id, attempt, level, bin),
    FOREIGN KEY (run_id, attempt) REFERENCES attempts(run_id, attempt) ON DELETE CASCADE
);

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL -- JSON object
);
CREATE INDEX events_by_run ON events(run_id, id);

CREATE TABLE rules (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL, -- of this version
    is_enabled INTEGER NOT NULL,
    is_builtin INTEGER NOT NULL,
    metric TEXT NOT NULL, -- expression
    tensor_pattern TEXT NOT NULL, -- empty: the point's metric
    comparison TEXT NOT NULL,
    threshold REAL, -- NULL: NaN
    clear REAL, -- NULL: the threshold
    for_steps INTEGER NOT NULL,
    clear_steps INTEGER NOT NULL,
    is_once INTEGER NOT NULL,
    min_points INTEGER NOT NULL,
    cooldown_steps INTEGER NOT NULL,
    cooldown_s INTEGER NOT NULL,
    notify_per_hour INTEGER NOT NULL, -- 0: no limit
    cause TEXT NOT NULL, -- empty: the name
    severity TEXT NOT NULL,
    action TEXT NOT NULL,
    run_pattern TEXT NOT NULL, -- glob over run names; empty: every run
    runs TEXT, -- label selector, JSON object of globs; NULL: every run
    source TEXT,
    notify TEXT -- names of receivers, JSON array; NULL: every receiver that matches
);

-- Every version of a rule, the newest of each; those of rules that went, too.
CREATE TABLE rule_versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL, -- of this version
    is_enabled INTEGER NOT NULL,
    is_builtin INTEGER NOT NULL,
    metric TEXT NOT NULL, -- expression
    tensor_pattern TEXT NOT NULL, -- empty: the point's metric
    comparison TEXT NOT NULL,
    threshold REAL, -- NULL: NaN
    clear REAL, -- NULL: the threshold
    for_steps INTEGER NOT NULL,
    clear_steps INTEGER NOT NULL,
    is_once INTEGER NOT NULL,
    min_points INTEGER NOT NULL,
    cooldown_steps INTEGER NOT NULL,
    cooldown_s INTEGER NOT NULL,
    notify_per_hour INTEGER NOT NULL, -- 0: no limit
    cause TEXT NOT NULL, -- empty: the name
    severity TEXT NOT NULL,
    action TEXT NOT NULL,
    run_pattern TEXT NOT NULL, -- glob over run names; empty: every run
    runs TEXT, -- label selector, JSON object of globs; NULL: every run
    source TEXT,
    notify TEXT,
    is_deleted INTEGER NOT NULL, -- the rule went with this version
    UNIQUE (name, version)
);

-- Matching alerts do not notify until until_ns.
CREATE TABLE silences (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL, -- glob; empty: any
    rule TEXT NOT NULL, -- glob; empty: any
    severity TEXT, -- NULL: any
    labels TEXT, -- of the run, JSON object of globs; NULL: any
    comment TEXT NOT NULL,
    author TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    until_ns INTEGER NOT NULL
);

CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER REFERENCES runs(id) ON DELETE CASCADE, -- NULL: the daemon itself
    attempt INTEGER NOT NULL, -- 0: the daemon itself
    rule TEXT NOT NULL, -- a name: alerts outlive their rule
    rule_version INTEGER NOT NULL,
    tensor TEXT, -- NULL: the point's metric
    state TEXT NOT NULL,
    severity TEXT NOT NULL,
    pending_step INTEGER,
    firing_step INTEGER,
    resolved_step INTEGER,
    updated_ns INTEGER NOT NULL,
    firing_ns INTEGER, -- NULL: not reached
    resolved_ns INTEGER, -- NULL: not reached
    acked_ns INTEGER, -- NULL: not acknowledged
    ack_until_ns INTEGER, -- NULL: without end
    acked_by TEXT,
    ack_comment TEXT,
    cause TEXT NOT NULL, -- alerts of one run, attempt and cause are a group
    group_id INTEGER, -- the first alert of the group; NULL: this one
    silence_id INTEGER, -- NULL: not silenced
    silenced_until_ns INTEGER,
    notified_ns INTEGER, -- NULL: nobody was told
    held TEXT NOT NULL, -- why not, while it fires
    value REAL, -- NULL: NaN
    threshold REAL, -- NULL: NaN
    summary TEXT NOT NULL,
    evidence TEXT NOT NULL -- JSON object
);
CREATE INDEX alerts_by_run ON alerts(run_id, id);
CREATE INDEX alerts_by_state ON alerts(state, id);
CREATE INDEX alerts_by_change ON alerts(updated_ns);
CREATE INDEX alerts_by_group ON alerts(coalesce(group_id, id));

-- Where notifications of alerts go (docs/delivery.md).
CREATE TABLE receivers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    format TEXT NOT NULL, -- of a webhook's body
    target TEXT NOT NULL, -- URL, or address of sendmail; may hold a secret
    secret TEXT, -- key of the signature; NULL: not signed
    min_severity TEXT NOT NULL,
    labels TEXT, -- label selector of runs, JSON object; NULL: every run
    is_from_file INTEGER NOT NULL -- of receivers_file
);

-- The outbox: one row per alert, receiver and state told, written in the transaction that changes
-- the alert. Rows that are finished go some time after their alert is resolved.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id INTEGER NOT NULL REFERENCES alerts(id) ON DELETE CASCADE,
    receiver TEXT NOT NULL, -- a name: deliveries outlive their receiver
    kind TEXT NOT NULL, -- firing, resolved
    state TEXT NOT NULL, -- waiting, repeating, delivered, failed
    attempts INTEGER NOT NULL, -- since it was due
    created_ns INTEGER NOT NULL,
    next_ns INTEGER, -- NULL: no further attempt
    delivered_ns INTEGER, -- last success; NULL: none
    error TEXT, -- of the last attempt; NULL: none or a success
    payload TEXT NOT NULL, -- JSON: the alert as it was then, run and action
    UNIQUE (alert_id, receiver, kind)
);
CREATE INDEX deliveries_due ON deliveries(receiver, next_ns, id) WHERE next_ns IS NOT NULL;
CREATE INDEX deliveries_finished ON deliveries(created_ns) WHERE next_ns IS NULL;

-- Sketch windows of an attempt, for the daemon alone.
-- The newest numbers of the declared layers of an attempt.
CREATE TABLE layers (
    run_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    layer INTEGER NOT NULL, -- index in the declared list
    step INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    method TEXT NOT NULL, -- of the gain
    bound_step INTEGER, -- of the snapshot whose values gave the bound; NULL: this one
    marks TEXT NOT NULL, -- per column below: trust, or the reason why it is NULL
    -- metrics: layer
    gain REAL,
    local_gain REAL,
    log_product REAL,
    local_log_product REAL,
    row_norm REAL,
    triangle REAL,
    log_norm_gain REAL,
    log_norm REAL,
    gain_inf REAL,
    cfl_margin REAL,
    backward_gain REAL,
    act_norm REAL,
    empirical_gain REAL,
    empirical_gain_max REAL,
    empirical_gain_growth REAL,
    -- end
    PRIMARY KEY (run_id, attempt, layer),
    FOREIGN KEY (run_id, attempt) REFERENCES attempts(run_id, attempt) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE profiles (
    run_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (run_id, attempt),
    FOREIGN KEY (run_id, attempt) REFERENCES attempts(run_id, attempt) ON DELETE CASCADE
);

-- For people: names and times instead of numbers.
CREATE VIEW points_named AS
    SELECT r.name AS run, strftime('%Y-%m-%dT%H:%M:%fZ', p.time_ns / 1e9, 'unixepoch') AS time,
        p.*, a.text AS annotation_text
    FROM points p JOIN runs r ON r.id = p.run_id LEFT JOIN annotations a ON a.id = p.annotation
    WHERE r.name IS NOT NULL;
CREATE VIEW tensor_points_named AS
    SELECT r.name AS run, t.name AS tensor_name, t.shape, p.*
    FROM tensor_points p JOIN runs r ON r.id = p.run_id
    JOIN tensors t ON t.run_id = p.run_id AND t.attempt = p.attempt AND t.tensor = p.tensor
    WHERE r.name IS NOT NULL;
CREATE VIEW alerts_named AS
    SELECT r.name AS run, strftime('%Y-%m-%dT%H:%M:%fZ', a.updated_ns / 1e9, 'unixepoch') AS updated,
        a.*
    FROM alerts a LEFT JOIN runs r ON r.id = a.run_id
    WHERE a.run_id IS NULL OR r.name IS NOT NULL;
CREATE VIEW events_named AS
    SELECT r.name AS run, strftime('%Y-%m-%dT%H:%M:%fZ', e.time_ns / 1e9, 'unixepoch') AS time, e.*
    FROM events e JOIN runs r ON r.id = e.run_id
    WHERE r.name IS NOT NULL;

PRAGMA application_id = 0x6c796170; -- "lyap"
PRAGMA user_version = 1;
