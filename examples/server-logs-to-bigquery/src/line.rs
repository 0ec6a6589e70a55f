//! A line of a server's log, and the tables that lines go to.

use aqueduct::bigquery::{Field, FieldType, TableSchema};
use serde::{Deserialize, Serialize};

/// A line as it is produced. Fields that are not named here are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which table it goes to.
    pub kind: Kind,
    /// RFC 3339.
    pub time: String,
    pub app: String,
    pub host: String,
    pub level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What was asked of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub status: u16,
    pub duration_us: u64,
}

/// Kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request that was served.
    Access,
    /// What an application says.
    App,
    /// Who did what.
    Audit,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Kind {
    /// All there are: a segment has a stream for each.
    pub const ALL: [Self; 3] = [Self::Access, Self::App, Self::Audit];

    /// The table of its lines.
    pub fn table(self) -> &'static str {
        match self {
            Self::Access => "access_logs",
            Self::App => "app_logs",
            Self::Audit => "audit_logs",
        }
    }

    /// The columns of its table. Three more are added, which say where in Kafka a row comes from.
    pub fn columns(self) -> TableSchema {
        let own = match self {
            Self::Access => vec![Field::nullable(
                "request",
                FieldType::Record(vec![
                    Field::required("method", FieldType::String),
                    Field::required("path", FieldType::String),
                    Field::required("status", FieldType::Int64),
                    Field::nullable("duration_us", FieldType::Int64),
                ]),
            )],
            Self::App => vec![
                Field::required("message", FieldType::String),
                Field::repeated("tags", FieldType::String),
            ],
            Self::Audit => vec![
                Field::required("actor", FieldType::String),
                Field::required("action", FieldType::String),
            ],
        };
        let common = [
            Field::required("time", FieldType::Timestamp),
            Field::required("app", FieldType::String),
            Field::nullable("host", FieldType::String),
            Field::required("level", FieldType::String),
        ];
        TableSchema::new(common.into_iter().chain(own))
    }
}
