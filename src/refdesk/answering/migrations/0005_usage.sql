-- What answers have used of the models: sums by day. Each answer is booked once, whoever books it.

CREATE TABLE usage_days (
    day             date NOT NULL,
    principal_id    text NOT NULL,
    groups          text[] NOT NULL,
    model           text NOT NULL,
    answers         bigint NOT NULL,                        -- written
    shared          bigint NOT NULL,                        -- shared with another asker, or given again
    input_tokens    bigint NOT NULL,
    output_tokens   bigint NOT NULL,
    cost            numeric,                                -- NULL: of nothing there was a price
    PRIMARY KEY (day, principal_id, model, groups)
);

CREATE INDEX usage_days_of_principal ON usage_days (principal_id, day);

-- The ids of what is booked, for as long as somebody might book it again.
CREATE TABLE usage_booked (
    id              text PRIMARY KEY,
    booked_at       timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX usage_booked_by_time ON usage_booked (booked_at);

-- What principals were called when they last asked, for people who read the sums.
CREATE TABLE usage_principals (
    principal_id    text PRIMARY KEY,
    name            text NOT NULL
);
