CREATE TABLE answer_feedback (
    answer_id text PRIMARY KEY,
    principal_id text NOT NULL,
    rating text NOT NULL CHECK (rating IN ('up', 'down')),
    comment text,
    created_at timestamptz NOT NULL DEFAULT now()
);
