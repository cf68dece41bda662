//! How much is logged, and how it looks.

/// How much is logged, and how it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// How much.
    pub level: LogLevel,
    /// How it looks.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// What someone has to repair.
    Error,
    /// What may need a person's eye.
    Warn,
    /// What the program does and learns.
    #[default]
    Info,
    /// One line per finished request as well.
    Debug,
    /// One line per try at the upstream as well.
    Trace,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}
