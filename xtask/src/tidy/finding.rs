//! What a rule says about a file.

use std::fmt;

/// A violated rule, with the fix in its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    path: String,
    /// Counted from 1; the whole file when there is none.
    line: Option<usize>,
    pub(super) severity: Severity,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Warning,
    Error,
}

impl Finding {
    /// An error about the whole file.
    pub(super) fn in_file(path: &str, message: impl Into<String>) -> Self {
        let severity = Severity::Error;
        Self { path: path.to_owned(), line: None, severity, message: message.into() }
    }

    /// An error in one line, counted from 1.
    pub(super) fn in_line(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::in_file(path, message) }
    }

    /// The same, but it does not fail the check.
    pub(super) fn into_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match self.line {
            Some(line) => write!(f, "{severity}: {}:{line}: {}", self.path, self.message),
            None => write!(f, "{severity}: {}: {}", self.path, self.message),
        }
    }
}

/// Expects one finding for each text, in order and each containing its text.
#[cfg(test)]
#[track_caller]
pub(super) fn expect(findings: &[Finding], expected: &[&str]) {
    let messages: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), expected.len(), "{messages:#?}");
    for (message, text) in messages.iter().zip(expected) {
        assert!(message.contains(text), "{text:?} is not in {message:?}");
    }
}
