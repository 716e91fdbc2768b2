"""The tables of run.db."""

VERSION = 1
# The fact that says how many rows at once turned out to fit, and from where on.
SIZES = "row_sizes"

SCHEMA = """
CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS sessions (
    id INTEGER PRIMARY KEY, pid INTEGER, host TEXT, started REAL, resumed_from_step INTEGER,
    ended REAL, outcome TEXT, error TEXT, began TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS steps (
    seq INTEGER PRIMARY KEY, session INTEGER, step INTEGER, time REAL,
    metrics TEXT, knobs TEXT, phases TEXT, memory TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS samples (
    seq INTEGER PRIMARY KEY, session INTEGER, step INTEGER, kind TEXT, prompt_id TEXT,
    prompt TEXT, response TEXT, finished INTEGER, score REAL, gold REAL, kl REAL, net_reward REAL,
    detail TEXT, pieces TEXT, tokens BLOB, logp BLOB, ref_logp BLOB, value BLOB, advantage BLOB);
CREATE INDEX IF NOT EXISTS samples_by_step ON samples (step);
CREATE INDEX IF NOT EXISTS samples_by_kind ON samples (kind, session, step);
CREATE INDEX IF NOT EXISTS samples_by_prompt ON samples (prompt_id, session, step);
CREATE INDEX IF NOT EXISTS samples_by_score ON samples (score, kind, session, step);
CREATE INDEX IF NOT EXISTS samples_by_kl ON samples (kl, kind, session, step);
CREATE INDEX IF NOT EXISTS samples_by_net_reward ON samples (net_reward, kind, session, step);
CREATE INDEX IF NOT EXISTS samples_by_length ON samples (length(tokens), kind, session, step);
CREATE TABLE IF NOT EXISTS measured (
    seq INTEGER PRIMARY KEY, session INTEGER, step INTEGER, time REAL, metrics TEXT,
    command_id TEXT);
CREATE TABLE IF NOT EXISTS commands (
    id TEXT PRIMARY KEY, kind TEXT, body TEXT, client TEXT, sent REAL,
    state TEXT, session INTEGER, step INTEGER, applied REAL, note TEXT);
CREATE TABLE IF NOT EXISTS knobs (
    seq INTEGER PRIMARY KEY, session INTEGER, step INTEGER, time REAL, name TEXT,
    old REAL, new REAL, source TEXT, command_id TEXT);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, session INTEGER, step INTEGER, time REAL,
    level TEXT, kind TEXT, text TEXT, data TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS checkpoints (
    step INTEGER, session INTEGER, path TEXT, time REAL, bytes INTEGER,
    PRIMARY KEY (step, session));
CREATE TABLE IF NOT EXISTS progress (
    id INTEGER PRIMARY KEY CHECK (id = 1), session INTEGER, status TEXT, phase TEXT,
    done REAL, total REAL, unit TEXT, text TEXT, time REAL);
"""

# What stores of earlier versions lack.
ADDED = {
    "events": {"data": "TEXT NOT NULL DEFAULT '{}'"},
    "sessions": {"began": "TEXT NOT NULL DEFAULT ''"},
    "steps": {"memory": "TEXT NOT NULL DEFAULT '{}'"},
}

# A row of an earlier session is history once a later session went on from before its step.
LIVE = (
    "NOT EXISTS (SELECT 1 FROM sessions later WHERE later.id > {table}.session"
    " AND later.resumed_from_step < {table}.step)"
)

# An answer to a person is given once: steps that are done again do not give it again.
# A rollback takes back what was done; after a crash the same steps are done again, as they were.
STANDING = (
    "NOT EXISTS (SELECT 1 FROM sessions later WHERE later.id > {table}.session"
    " AND later.began = 'rollback' AND later.resumed_from_step < {table}.step)"
)

# An answer to a person is given once: steps that are done again do not give it again.
SHOWN = (
    f"({STANDING.format(table='samples')}"
    f" AND (samples.kind = 'asked' OR {LIVE.format(table='samples')}))"
)
