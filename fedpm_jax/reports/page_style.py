"""The style sheet of the page of runs: one column, and more where there is room."""

CSS = """
:root { --ink: #1d2733; --soft: #5b6775; --line: #dfe4e9; --paper: #f5f7f9;
  --card: #ffffff; --accent: #0072b2; --mark: #fff1c9; color-scheme: light; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px;
  overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 40px 0 12px; padding-bottom: 6px;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 20px 0 8px; color: var(--soft);
  font-weight: 600; overflow-wrap: anywhere; }
p { margin: 8px 0; max-width: 75ch; overflow-wrap: anywhere; }
.lead, .note, figcaption { color: var(--soft); }
.note { font-size: .875rem; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 14px 0 0;
  font-size: .9rem; }
a { color: var(--accent); }
.tiles { display: grid; gap: 12px; margin: 20px 0;
  grid-template-columns: repeat(auto-fit, minmax(112px, 1fr)); }
.tile, figure, .table { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
.tile { padding: 12px 14px; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.tile b small { display: block; font-size: .8rem; font-weight: 400; }
.tile span { color: var(--soft); font-size: .82rem; }
.plots { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr)); }
.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 215px), 1fr)); }
figure { margin: 0; padding: 10px 12px 8px; min-width: 0; }
figcaption { font-size: .875rem; margin-bottom: 4px; overflow-wrap: anywhere; }
.plots svg { display: block; width: 100%; height: auto; }
.plots svg * { stroke-linejoin: round; stroke-linecap: butt; }
.plots.small figcaption { font-size: .78rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: left; vertical-align: top;
  border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
.wide { font-size: .8rem; } .wide th, .wide td { padding: 6px 7px; }
.wide td.number { white-space: normal; min-width: 4.2em; }
.config th, .config td { overflow-wrap: anywhere; min-width: 8em; }
.config tbody th { font-weight: 400; color: var(--soft); }
tr.differs > * { background: var(--mark); }
tr.differs th::after { content: " differs"; font-size: .75rem; }
pre { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 10px 12px; margin: 8px 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .8rem/1.45 ui-monospace, "DejaVu Sans Mono",
  monospace; }
@media (max-width: 480px) { main { padding: 16px 12px 40px; }
  h1 { font-size: 1.3rem; } figure { padding: 8px 6px 6px; } }
@media print { body { background: #fff; } figure { break-inside: avoid; } }
"""
