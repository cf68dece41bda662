//! What is asked of an intermediary, in 58 rows, and which test shows each: no row without one, none that is not there.

use std::fs;
use std::path::Path;

/// A rule, what is done about it, and the tests that show it.
struct Row {
    number: usize,
    rule: &'static str,
    /// `hops::name` is in `tests/http/hops.rs`, `proxy/pool::name` in `src/proxy/pool.rs`.
    shown: &'static [&'static str],
}

const fn row(number: usize, rule: &'static str, shown: &'static [&'static str]) -> Row {
    Row { number, rule, shown }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // --- fields of one connection, and of the way
    row(1, "requests: what Connection names goes no further, nor do the hop-by-hop fields (RFC 9110 7.6.1)", &["hops::fields_of_one_connection_go_no_further", "intermediary::heads_are_cleaned_and_everything_else_stays"]),
    row(2, "the same in responses; 1xx are left out as they are", &["hops::fields_of_one_connection_go_no_further", "interim::early_hints_are_left_out_and_the_answer_is_whole"]),
    row(3, "Connection takes nothing away that is meant for the end", &["hops::connection_takes_nothing_away_that_is_meant_for_the_end"]),
    row(4, "Via in requests, and a loop ends: 508 (RFC 9110 7.6.3)", &["hops::two_proxies_in_a_ring_end_in_508", "intermediary::a_request_that_comes_round_again_is_a_loop"]),
    row(5, "Max-Forwards of OPTIONS and TRACE is counted down, and ends here at 0 (RFC 9110 7.6.2)", &["hops::max_forwards_is_counted_down_and_ends_here"]),
    row(6, "TE is made anew, and trailers wished for are wished for at the origin (RFC 9110 10.1.4)", &["hops::te_is_made_anew", "streams::a_grpc_call_passes_with_its_trailers"]),
    row(7, "trailers are relayed, never merged, and without what must not come late (RFC 9110 6.5)", &["streams::trailers_pass_over_http1_without_what_must_not_come_late", "streams::a_grpc_call_passes_with_its_trailers"]),
    // --- before the answer
    row(8, "Expect: 100-continue is relayed, and the origin invites the body (RFC 9110 10.1.1)", &["intermediary::expect_is_answered_by_the_origin_s_word", "intermediary::who_does_not_wait_to_be_asked_is_not_waited_for", "departure::a_queued_client_that_expects_to_be_asked_is_not_asked_and_may_leave", "endings::who_expects_to_be_asked_and_sends_a_body_unasked_is_served"]),
    row(9, "a final answer comes without the body having been invited", &["interim::a_final_word_comes_before_the_body_is_invited", "replay::a_refusal_before_the_body_was_asked_for_leaves_it_with_the_client", "endings::who_expects_to_be_asked_gets_a_final_word_without_having_sent_a_body"]),
    row(10, "other expectations: 417", &["hostile::expectations_that_are_not_known"]),
    row(11, "1xx: dropped, and the answer is whole (RFC 9110 15.2)", &["interim::early_hints_are_left_out_and_the_answer_is_whole", "interim::interim_answers_alone_are_none"]),
    row(12, "101 that nobody asked for: 502 (RFC 9110 15.2.2)", &["interim::a_switch_of_protocols_that_nobody_asked_for_is_a_502"]),
    row(13, "an upgrade to h2c is not relayed", &["hops::an_upgrade_is_answered_as_if_nobody_had_asked_for_it"]),
    row(14, "an upgrade to anything else: not relayed either", &["hops::an_upgrade_is_answered_as_if_nobody_had_asked_for_it"]),
    row(15, "how tunnels end: there are none, CONNECT is refused with 501 and Upgrade is left out", &["intermediary::absolute_form_is_served_for_the_upstream_alone", "hops::an_upgrade_is_answered_as_if_nobody_had_asked_for_it"]),
    row(16, "extended CONNECT (RFC 8441): not announced, so refused (\"a protocol without being asked\")", &["translation::fields_that_name_no_request_do_not_pass"]),
    // --- where to
    row(17, "exactly one Host, else 400 (RFC 9112 3.2)", &["hostile::hosts_that_are_none"]),
    row(18, "a Host that is none: 400", &["hostile::hosts_that_are_none", "proxy/host::hosts_are_told_from_everything_else"]),
    row(19, "absolute form wins over Host, and Host is made anew (RFC 9112 3.2.2)", &["intermediary::absolute_form_is_served_for_the_upstream_alone", "upstreams::a_request_finds_its_upstream_by_prefix_host_or_authority"]),
    row(20, "authority form for CONNECT alone, asterisk for OPTIONS alone", &["hostile::targets_that_are_none", "intermediary::options_asterisk_reaches_the_upstream"]),
    row(21, "no target changes which upstream is asked", &["hostile::targets_that_are_none", "hostile::what_is_odd_and_right_passes", "upstreams::what_names_no_upstream_is_refused_with_the_names_of_those_there_are"]),
    row(22, "path and query pass byte for byte", &["intermediary::heads_are_cleaned_and_everything_else_stays", "translation::what_is_right_is_translated"]),
    row(23, "a fragment: 400", &["hostile::targets_that_are_none"]),
    // --- where requests end
    row(24, "a length beside a coding: refused with 400 and closed, which RFC 9112 6.1 allows", &["hostile::codings_that_are_not_known"]),
    row(25, "lengths that contradict each other or are none: 400 and closed", &["hostile::lengths_that_are_none"]),
    row(26, "a coding that does not end in chunked, or in HTTP/1.0: refused", &["hostile::codings_that_are_not_known"]),
    row(27, "codings that are not known, or twice: never relayed", &["hostile::codings_that_are_not_known", "proxy/classify::tunnels_and_odd_codings_are_not_served"]),
    row(28, "chunks are exactly chunks", &["hostile::chunks_that_are_none"]),
    row(29, "bare CR and LF, NUL, folded lines, a space before the colon, names that are none: 400", &["hostile::fields_that_are_none", "hostile::request_lines_that_are_none"]),
    row(30, "an incomplete message is never completed", &["hostile::what_is_incomplete_is_never_completed", "streams::an_upload_that_is_reset_is_never_completed"]),
    // --- where answers end
    row(31, "an answer that breaks off is seen to: a close over HTTP/1.1, a reset over HTTP/2", &["intermediary::truncation_and_nonsense_are_never_a_clean_end", "http2::a_truncated_upstream_body_resets_the_stream_alone", "streams::a_reset_within_an_answer_is_seen_in_either_protocol"]),
    row(32, "a length beside a coding in an answer is dropped", &["answers::a_length_beside_a_coding_is_dropped"]),
    row(33, "answers that are none: 502", &["answers::answers_that_are_none_are_a_502", "answers::a_length_that_is_said_twice_alike_is_one", "answers::a_body_that_is_none_is_not_whole"]),
    row(34, "bytes after an answer are nobody's", &["answers::bytes_after_an_answer_are_nobody_s"]),
    row(35, "HEAD, 204 and 304 have no body and keep their fields", &["answers::answers_without_a_body_keep_their_fields_and_their_connection", "replay::a_refused_head_is_answered_without_a_body", "endings::an_answer_that_can_have_no_body_has_none"]),
    row(36, "HTTP/1.0 clients get no chunks, and the origin hears HTTP/1.1", &["intermediary::http10_is_understood_and_http11_is_spoken"]),
    row(37, "pipelined requests are answered in their order", &["answers::pipelined_requests_are_answered_in_their_order", "hostile::a_refused_head_waits_for_its_turn_and_ends_the_connection"]),
    row(38, "an answer may come before the upload has ended", &["answers::an_answer_may_come_before_the_upload_has_ended", "answers::an_answer_and_its_request_may_pass_each_other", "endings::an_answer_before_the_end_of_an_upload_ends_it_without_an_error"]),
    row(39, "a client that closes its half has left: a choice, told in src/proxy/mod.rs", &["answers::a_client_that_closes_its_half_has_left"]),
    row(40, "a kept connection that died: GET and PUT once more, POST never (RFC 9110 9.2.2)", &["stale::a_get_is_sent_again_on_a_new_connection", "stale::a_put_is_sent_again_with_its_body", "stale::a_post_that_may_have_arrived_is_not_sent_again"]),
    // --- what passes
    row(41, "cookies keep their order, and values their bytes", &["untouched::cookies_keep_their_order_and_old_bytes_their_value"]),
    row(42, "Date and Server stay; a Date is added only where there is none", &["untouched::a_date_and_a_server_that_are_there_stay"]),
    row(43, "Forwarded and X-Forwarded-*: by the operator's list, and nobody is believed unasked (RFC 7239)", &["hops::who_asks_is_told_as_the_operator_wants_it", "http2::who_asks_over_http2_is_told_as_the_operator_wants_it", "secure::who_asks_over_tls_is_told_to_have_asked_over_https", "proxy/forwarded::each_mode_says_what_it_should"]),
    row(44, "Proxy-Status in every answer of ours; of addresses it has the upstream's as it was configured (RFC 9209)", &["proxy/respond::every_error_has_its_status_and_its_word", "intermediary::an_upstream_that_is_not_there_is_a_502_that_says_so", "intermediary::a_name_that_does_not_resolve_is_a_502_that_says_so", "tls::a_certificate_that_nobody_trusts_is_a_502_that_says_what_to_do", "paused::a_silent_upstream_is_a_504_after_a_minute", "paused::an_unreachable_upstream_is_a_504_after_five_seconds"]),
    row(45, "a 429 or 503 of ours: Retry-After of 1 or more, no-store, and marked as ours (RFC 6585)", &["admission::a_caller_over_its_quota_gets_our_429_and_the_api_hears_nothing", "proxy/respond::refusals_say_why_and_when_to_come_back", "replay::a_wait_that_a_drain_cuts_short_is_answered_by_us"]),
    row(46, "Retry-After in seconds or as a date, measured against the answer's own Date (RFC 9110 10.2.3)", &["proxy/signals/wait::retry_after_is_read_in_every_form", "proxy/signals/wait::dates_are_measured_against_the_response_s_own_date"]),
    row(47, "425 is relayed; no early data is taken or sent (RFC 8470)", &["untouched::too_early_is_an_answer_and_nothing_is_sent_again", "secure::sessions_are_resumed_without_early_data"]),
    // --- HTTP/2
    row(48, "names in lower case, no fields of a connection, TE for trailers alone, no CR, LF or NUL, lengths that match (RFC 9113 8.2)", &["translation::heads_that_http1_would_say_otherwise_do_not_pass", "translation::bodies_and_trailers_that_lie_do_not_pass", "rules::what_is_wrong_ends_its_stream_or_its_connection"]),
    row(49, "cookie crumbs become one field towards HTTP/1.1 (RFC 9113 8.2.3)", &["http2::requests_over_http2_reach_an_http1_upstream", "proxy/h1/ask::a_head_says_where_and_how_long_and_what_the_client_said"]),
    row(50, ":authority and Host agree, and are hosts (RFC 9113 8.3.1)", &["translation::fields_that_name_no_request_do_not_pass", "proxy/classify::http2_names_any_authority_once"]),
    row(51, "CONNECT is refused in both protocols", &["intermediary::absolute_form_is_served_for_the_upstream_alone", "translation::fields_that_name_no_request_do_not_pass"]),
    row(52, "a reset of one side becomes one of the other; a refused stream is sent again", &["streams::a_refused_stream_is_sent_again_and_another_reset_is_not", "streams::a_reset_within_an_answer_is_seen_in_either_protocol", "streams::an_upload_that_is_reset_is_never_completed", "streams::a_client_that_leaves_resets_its_stream_at_the_origin", "http2::a_reset_stream_cancels_its_upstream_request"]),
    row(53, "goodbyes: streams that are under way finish", &["streams::a_drain_says_goodbye_and_lets_streams_finish", "tls::a_goodbye_over_http2_costs_no_post"]),
    row(54, "100 streams, windows of 64 KiB and 1 MiB, heads of 16 KiB unpacked", &["frames::what_a_client_may_do_is_announced_and_holds", "frames::what_a_client_may_do_is_configured", "rules::what_is_wrong_ends_its_stream_or_its_connection"]),
    row(55, "floods of control frames end their connection and nothing else", &["frames::floods_end_their_connection_and_nothing_else", "frames::requests_that_are_taken_back_at_once_end_their_connection", "frames::streams_that_break_the_protocol_end_their_connection", "frames::many_small_pieces_of_a_body_are_no_flood", "proxy/frames::control_frames_beyond_what_was_paid_for_are_a_flood"]),
    // --- the rest
    row(56, "TRACE with credentials: 405", &["intermediary::what_is_no_request_is_refused", "translation::fields_that_name_no_request_do_not_pass"]),
    row(57, "bodies, codings, ranges and validators are not touched", &["untouched::ranges_validators_and_codings_pass", "accept::large_bodies_pass_both_ways_unchanged"]),
    row(58, "nothing of ours breaks CORS; a preflight is the API's to answer, and queued like any other request", &["untouched::a_preflight_is_the_api_s_to_answer_and_nothing_is_added_to_cors"]),
];

/// How many rows there are.
const COUNT: usize = 58;

/// Everything wrong with `rows`, where `source` gives the text of a file below the project's folder.
fn complaints(rows: &[Row], source: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for number in 1..=COUNT {
        let count = rows.iter().filter(|row| row.number == number).count();
        if count != 1 {
            found.push(format!("row {number} is there {count} times"));
        }
    }
    for row in rows {
        if row.shown.is_empty() || row.rule.is_empty() {
            found.push(format!("row {} has no rule or no test", row.number));
        }
        for shown in row.shown.iter().filter(|shown| !is_there(shown, &source)) {
            found.push(format!("row {}: there is no test {shown}", row.number));
        }
    }
    found
}

/// Is there such a test? `hops::name` is in `tests/http/hops.rs`, `proxy/pool::name` in `src/proxy/pool.rs`, and
/// `../run/drain::name` in `tests/run/drain.rs`.
pub(crate) fn is_there(shown: &str, source: impl Fn(&str) -> Option<String>) -> bool {
    shown.rsplit_once("::").is_some_and(|(file, name)| {
        let path = match file.strip_prefix("../") {
            Some(beside) => format!("tests/{beside}.rs"),
            None if file.contains('/') => format!("src/{file}.rs"),
            None => format!("tests/http/{file}.rs"),
        };
        source(&path).is_some_and(|text| has_test(&text, name))
    })
}

/// Is there a function of this name that runs as a test?
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        let is_named = ["fn ", "async fn "].iter().any(|kind| {
            pair[1]
                .strip_prefix(kind)
                .is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
        });
        is_named && (pair[0] == "#[test]" || pair[0].starts_with("#[tokio::test"))
    })
}

#[test]
fn every_row_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = complaints(ROWS, |path| fs::read_to_string(root.join(path)).ok());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_row_or_a_test_that_is_missing_is_seen() {
    let text = "#[test]\nfn one() {}\n#[tokio::test(start_paused = true)]\nasync fn two() {}\n// #[test]\nfn three() {}\n";
    let source =
        |path: &str| (path == "tests/http/a.rs" || path == "src/proxy/b.rs").then(|| text.to_owned());
    let whole: Vec<Row> =
        (1..=COUNT).map(|number| row(number, "a rule", &["a::one", "proxy/b::two"])).collect();
    assert!(complaints(&whole, source).is_empty());
    for shown in [&["a::three"][..], &["a::tw"], &["c::one"], &["one"], &[]] {
        let mut rows: Vec<Row> = (2..=COUNT).map(|number| row(number, "a rule", &["a::one"])).collect();
        rows.push(row(1, "a rule", shown));
        assert_eq!(complaints(&rows, source).len(), 1, "{shown:?}");
    }
    assert_eq!(complaints(&whole[1..], source), ["row 1 is there 0 times"]);
}
