//! The metrics that say what is running, and how it is set.

use crate::telemetry::registered::registered;
use prometheus::{GaugeVec, IntGauge, Opts, Registry};

pub(super) fn build_info(registry: &Registry) -> Result<(), prometheus::Error> {
    let options = Opts::new("tidegate_build_info", "Always 1; the labels say what is running.")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("os", std::env::consts::OS)
        .const_label("arch", std::env::consts::ARCH);
    registered(registry, IntGauge::with_opts(options)?)?.set(1);
    Ok(())
}

pub(super) fn settings(registry: &Registry) -> Result<GaugeVec, prometheus::Error> {
    let options = Opts::new("tidegate_setting", "Bounds, timeouts and other numbers, as configured.");
    registered(registry, GaugeVec::new(options, &["key"])?)
}

pub(super) fn tell(settings: &GaugeVec, numbers: &[(&str, f64)]) {
    for (key, number) in numbers {
        settings.with_label_values(&[key]).set(*number);
    }
}
