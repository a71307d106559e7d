//! Every phase × every rule.
