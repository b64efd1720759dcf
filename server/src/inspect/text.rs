//! A report as text.

use std::io::{self, Write};

use super::examine::{About, LimitReport, Report, kinds};

/// Damaged chunks that are listed; the JSON has all of them.
const LISTED: usize = 20;
const BAR: u64 = 40;

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "file         {}", report.file)?;
    writeln!(out, "bytes        {}", report.bytes)?;
    match &report.damage {
        None => writeln!(out, "health       every byte is as it was written")?,
        Some(damage) => writeln!(out, "health       DAMAGED: {damage}")?,
    }
    report.snapshot.as_ref().map_or(Ok(()), |about| write_about(about, out))
}

fn write_about(about: &About, out: &mut dyn Write) -> io::Result<()> {
    let by = if about.same_boot {
        "by the boot clock of this boot"
    } else {
        "by the wall clock; it was written on another boot"
    };
    writeln!(
        out,
        "generation   {}, written by version {}",
        about.generation, about.written_by
    )?;
    writeln!(out, "age          {:.3} s {by}", about.age)?;
    let key = match about.key_file {
        "fits" => "the secret beside it is its own",
        "does_not_fit" => "the secret beside it is ANOTHER: it would not be restored",
        "damaged" => "the secret beside it is DAMAGED: it would not be restored",
        "missing" => "there is no secret beside it: it has to come from the configuration",
        _ => "the secret beside it may not be read",
    };
    writeln!(out, "secret       {key}")?;
    writeln!(
        out,
        "chunks       {}, {} of them damaged",
        about.chunks,
        about.bad_chunks.len()
    )?;
    for bad in about.bad_chunks.iter().take(LISTED) {
        writeln!(out, "  chunk {} at byte {}: {}", bad.index, bad.offset, bad.what)?;
    }
    if about.bad_chunks.len() > LISTED {
        writeln!(out, "  and {} more: --json lists all", about.bad_chunks.len() - LISTED)?;
    }
    match &about.trailer {
        None => writeln!(out, "trailer      makes no sense")?,
        Some(trailer) => {
            let entries: Vec<String> = kinds()
                .into_iter()
                .zip(trailer.entries)
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect();
            writeln!(
                out,
                "trailer      generation {}, {} chunks: {}",
                trailer.generation,
                trailer.chunks,
                entries.join(", ")
            )?;
        }
    }
    writeln!(out, "blocks       {}", about.blocks)?;
    for limit in &about.limits {
        write_limit(limit, out)?;
    }
    if about.override_cells > 0 {
        writeln!(
            out,
            "\nclients with limits of their own: {} in debt",
            about.override_cells
        )?;
        write_debts(&about.override_debts, out)?;
    }
    Ok(())
}

fn write_limit(limit: &LimitReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "\nlimit {} (burst {}, full after {} s): {} in debt, {} of them still",
        limit.limit, limit.burst, limit.full_after, limit.cells, limit.still_in_debt
    )?;
    write_debts(&limit.debts, out)
}

fn write_debts(debts: &[u64; 10], out: &mut dyn Write) -> io::Result<()> {
    let most = debts.iter().copied().max().unwrap_or(0).max(1);
    for (tenth, &count) in debts.iter().enumerate() {
        let length = (u128::from(count) * u128::from(BAR)).div_ceil(u128::from(most)) as usize;
        let line = format!(
            "  {:>3} % to {:>3} % spent  {count:>12}  {}",
            tenth * 10,
            tenth * 10 + 10,
            "#".repeat(length)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
