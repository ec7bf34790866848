//! Figures as a person reads them: grouped counts, short sizes, durations, shares.

/// A count with thin groups of three: `12,345,678`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count in three significant figures with its unit letter: `10.8M`, `842`, `1.2B`.
pub fn short_count(n: u64) -> String {
    let value = n as f64;
    for (unit, name) in [(1e9, "B"), (1e6, "M"), (1e3, "k")] {
        // 999,950 would print as "1000.0k"; it belongs to the next unit.
        if value >= unit * 0.99995 {
            return format!("{}{name}", significant(value / unit));
        }
    }
    n.to_string()
}

/// Bytes in binary units: `3.0 GiB`.
pub fn bytes(n: u64) -> String {
    let value = n as f64;
    for (shift, name) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if n >= 1u64 << shift {
            return format!("{:.1} {name}", value / (1u64 << shift) as f64);
        }
    }
    format!("{n} B")
}

/// Seconds in words that fit a status line: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// A loss or a difference of losses in nats: always three decimals, never `-0.000`.
pub fn nats(value: f64) -> String {
    fixed(value, 3)
}

/// A value with a fixed number of decimals; `-0.00` becomes `0.00`, other values keep their sign.
pub fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.starts_with('-') && text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.')) {
        return text[1..].to_owned();
    }
    text
}

/// A learning rate or a strength: short in either notation, `0.001`, `3e-4`, `0.000312` →
/// `3.12e-4`.
pub fn rate(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs();
    if (0.001..1000.0).contains(&magnitude) {
        let text = format!("{value:.6}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let text = format!("{value:.2e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    format!("{mantissa}e{exponent}")
}

/// A figure's text, or `–` where the figure is not known (not a number).
pub fn known(value: f64, text: String) -> String {
    if value.is_nan() { "–".to_owned() } else { text }
}

/// A difference in nats with its sign: `+0.120`, `−0.034` (a real minus), `0.000`; `–` where there
/// is none.
pub fn signed(value: f64) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    let text = nats(value.abs());
    match value {
        v if v < 0.0 && text != "0.000" => format!("−{text}"),
        v if v > 0.0 && text != "0.000" => format!("+{text}"),
        _ => text,
    }
}

/// An interval in nats, `[−0.013, 0.015]`; `–` where there is none.
pub fn interval(low: f64, high: f64) -> String {
    if !low.is_finite() || !high.is_finite() {
        return "–".to_owned();
    }
    let bound = |value: f64| nats(value).replace('-', "−");
    format!("[{}, {}]", bound(low), bound(high))
}

/// A p-value: three decimals, `< 0.001` below that; `–` where there is none.
pub fn probability(p: f64) -> String {
    match p {
        p if p.is_nan() => "–".to_owned(),
        p if p < 0.001 => "< 0.001".to_owned(),
        p => fixed(p, 3),
    }
}

/// A value between 0 and 1 as a percentage: `12.5%`.
pub fn share(value: f64) -> String {
    format!("{}%", significant(value * 100.0))
}

fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A task's figure by its name: BLEU and chrF, which go to 100, with two decimals, shares with
/// four.
pub fn figure(name: &str, value: f64) -> String {
    match name {
        "bleu" | "chrf" => fixed(value, 2),
        _ => fixed(value, 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"].map(String::from)
        );
        assert_eq!(
            [842, 1000, 10_770_000, 123_800_000, 999_960, 1_100_000_000].map(short_count),
            ["842", "1k", "10.8M", "124M", "1M", "1.1B"].map(String::from)
        );
        assert_eq!(
            [0, 1023, 1536, 3 << 30].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"].map(String::from)
        );
    }

    #[test]
    fn durations() {
        assert_eq!(
            [0.0, 0.44, 9.96, 59.4, 59.6, 185.0, 7800.0, 200_000.0, f64::NAN, -1.0].map(duration),
            [
                "0.0 s",
                "0.4 s",
                "10 s",
                "59 s",
                "1 min 00 s",
                "3 min 05 s",
                "2 h 10 min",
                "2 d 07 h",
                "?",
                "?"
            ]
            .map(String::from)
        );
    }

    #[test]
    fn figures() {
        assert_eq!([1.23456, -0.0001, -0.25].map(nats), ["1.235", "0.000", "-0.250"]);
        assert_eq!(
            [0.0, 0.001, 3e-4, 0.000312, 0.1, 12.5, 1e-8, 5e6].map(rate),
            ["0", "0.001", "3e-4", "3.12e-4", "0.1", "12.5", "1e-8", "5e6"]
        );
        assert_eq!(
            [0.12, -0.0344, -0.0001, 0.0].map(signed),
            ["+0.120", "−0.034", "0.000", "0.000"]
        );
        assert_eq!(signed(f64::NAN), "–");
        assert_eq!(interval(-0.0131, 0.015), "[−0.013, 0.015]");
        assert_eq!(interval(f64::NAN, 0.015), "–");
        assert_eq!([0.0321, 0.0009, f64::NAN].map(probability), ["0.032", "< 0.001", "–"]);
        assert_eq!([0.125, 1.0, 0.00333].map(share), ["12.5%", "100%", "0.33%"]);
    }
}
