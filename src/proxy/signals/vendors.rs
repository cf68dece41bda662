//! Who announces limits in which fields: the table. A vendor is a row, not code.
//!
//! What sends `Retry-After` alone (Slack, Webex), or the IETF's fields (GitLab, Zendesk beside its own), needs none.

use super::dialect::Dialect;
use crate::config::ResetUnit;
use crate::control::Level;

/// Fields that belong together. Names are in small letters; an empty one is not sent.
pub(super) struct Row {
    /// What the limit is called.
    pub(super) name: &'static str,
    /// Of hosts that end so alone.
    pub(super) host: &'static str,
    /// The budget of a window. Some write more there: `32/40`, used and allowed; `total=100; remaining=99; resets=41`.
    pub(super) limit: &'static str,
    /// What is spent of it.
    pub(super) used: &'static str,
    /// What is left of it.
    pub(super) remaining: &'static str,
    /// When the window ends; the first that is there counts.
    pub(super) resets: &'static [&'static str],
    /// Which of the API's limits this is.
    pub(super) which: &'static [&'static str],
    /// What a plain number in `resets` counts.
    pub(super) unit: ResetUnit,
    /// The reset is when a bucket would be full again, and not the end of a window.
    pub(super) refills: bool,
    /// Which node of the lane's path the limit belongs to, where that is certain.
    pub(super) level: Level,
}

const ROW: Row = Row {
    name: "",
    host: "",
    limit: "",
    used: "",
    remaining: "",
    resets: &[],
    which: &[],
    unit: ResetUnit::Seconds,
    refills: false,
    level: Level::Route,
};

/// The first row of a limit's field counts.
const ROWS: &[Row] = &[
    // Genesys Cloud.
    Row {
        name: "inin",
        limit: "inin-ratelimit-allowed",
        used: "inin-ratelimit-count",
        resets: &["inin-ratelimit-reset"],
        ..ROW
    },
    // Very many: GitHub, Discord, Auth0 and Lemlist (a moment), GoodData, Telnyx and Akamai (a wait), MailerLite (a
    // date). GitHub has a limit for each resource, Discord one for each bucket.
    Row {
        name: "x-ratelimit",
        limit: "x-ratelimit-limit",
        used: "x-ratelimit-used",
        remaining: "x-ratelimit-remaining",
        resets: &["x-ratelimit-reset-after", "x-ratelimit-reset"],
        which: &["x-ratelimit-resource", "x-ratelimit-bucket"],
        ..ROW
    },
    // Prisjakt: 600000 are ten minutes.
    Row {
        name: "x-rate-limit",
        host: "prisjakt.nu",
        limit: "x-rate-limit-limit",
        remaining: "x-rate-limit-remaining",
        resets: &["x-rate-limit-reset"],
        unit: ResetUnit::Milliseconds,
        ..ROW
    },
    // X, Okta.
    Row {
        name: "x-rate-limit",
        limit: "x-rate-limit-limit",
        remaining: "x-rate-limit-remaining",
        resets: &["x-rate-limit-reset"],
        ..ROW
    },
    // Zendesk, beside the IETF's.
    Row { name: "x-rate-limit", limit: "x-rate-limit", remaining: "x-rate-limit-remaining", ..ROW },
    // Shopify: a bucket for each app and shop, which is what a token is for.
    Row { name: "shopify", limit: "x-shopify-shop-api-call-limit", level: Level::Credential, ..ROW },
    Row { name: "gorgias", limit: "x-gorgias-account-api-call-limit", ..ROW },
    // OpenAI and Azure. Their tokens (…-limit-tokens) are no requests: no pace of requests keeps to them, so they are
    // left to the refusals.
    Row {
        name: "x-ratelimit:requests",
        limit: "x-ratelimit-limit-requests",
        remaining: "x-ratelimit-remaining-requests",
        resets: &["x-ratelimit-reset-requests"],
        refills: true,
        ..ROW
    },
    // Anthropic; its tokens as OpenAI's.
    Row {
        name: "anthropic:requests",
        limit: "anthropic-ratelimit-requests-limit",
        remaining: "anthropic-ratelimit-requests-remaining",
        resets: &["anthropic-ratelimit-requests-reset"],
        refills: true,
        ..ROW
    },
    // Brevo.
    Row {
        name: "x-sib-ratelimit",
        limit: "x-sib-ratelimit-limit",
        remaining: "x-sib-ratelimit-remaining",
        resets: &["x-sib-ratelimit-reset"],
        ..ROW
    },
    // Auth0, of one client's logins: b=per_hour;q=100;r=99;t=1200,b=per_day;q=300;r=299;t=16800.
    Row { name: "auth0-client", limit: "auth0-client-quota-limit", ..ROW },
    Row { name: "auth0-organization", limit: "auth0-organization-quota-limit", ..ROW },
];

/// Fields whose names begin so hold a limit each, named by the rest: Zendesk has one for each endpoint.
pub(super) const PREFIXES: [&str; 1] = ["zendesk-ratelimit-"];

/// What every limit's field has in its name, so that most answers are known at a glance to have none.
pub(super) const IN_EVERY_NAME: &str = "limit";

/// The dialects of `host`.
pub(super) fn of(host: &str) -> impl Iterator<Item = Dialect> {
    let host = host.to_ascii_lowercase();
    ROWS.iter().filter(move |row| is_within(&host, row.host)).map(Dialect::of)
}

fn is_within(host: &str, domain: &str) -> bool {
    domain.is_empty() || host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_keeps_the_rules_of_the_table() {
        for row in ROWS {
            assert!(!row.name.is_empty() && !row.limit.is_empty(), "{}", row.name);
            assert!(row.limit.contains(IN_EVERY_NAME), "{} would never be looked at", row.limit);
            // Names that are none would panic here.
            drop(Dialect::of(row));
        }
        assert!(PREFIXES.iter().all(|prefix| prefix.contains(IN_EVERY_NAME)));
    }

    #[test]
    fn a_host_s_own_row_goes_before_the_general_one() {
        let milliseconds =
            |host: &str| of(host).filter(|dialect| dialect.unit == ResetUnit::Milliseconds).count();
        for (host, own) in
            [("prisjakt.nu", 1), ("api.Prisjakt.nu", 1), ("notprisjakt.nu", 0), ("example.com", 0)]
        {
            assert_eq!(milliseconds(host), own, "{host}");
        }
    }
}
