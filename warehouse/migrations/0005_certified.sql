-- A sentence that no rollout replaced is certified too: its bound then comes from rollouts.
COMMENT ON COLUMN scores.status IS 'ok, insufficient (too few observations), certified (so often written that its effect is bounded) or failed.';
