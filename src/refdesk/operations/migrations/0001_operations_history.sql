-- What the metrics said, for plots without a Prometheus: a row a step and process, each step kept for a time of its own.
CREATE TABLE operations_samples (
    step_s          integer NOT NULL,
    at              timestamptz NOT NULL,                   -- the step's beginning
    process         text NOT NULL,
    figures         jsonb NOT NULL,
    PRIMARY KEY (step_s, at, process)
);
