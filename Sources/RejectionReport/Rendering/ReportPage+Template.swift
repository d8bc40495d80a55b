extension ReportPage {
    /// The page, for swift-mustache. Values stand in `bdi`, so that their direction of writing doesn't change the text
    /// around.
    static let template = """
        {{% CONTENT_TYPE: \(HTMLText.name)}}
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta name="referrer" content="no-referrer">
        <title>{{title}} on {{host}}, {{period}}</title>
        <style>{{{style}}}</style>
        </head>
        <body>
        <header>
        <p class="mark"><svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true"><path d="M3 22V9a9 9 0 0 1 18 0v13h-5v-12a4 4 0 0 0-8 0v12z"/></svg><span>Postern</span><bdi class="host">{{host}}</bdi></p>
        <h1>{{title}}</h1>
        <p class="period">{{period}} <span>{{length}}</span></p>
        {{#hasFilters}}
        <p class="filters">{{filters}}</p>
        {{/hasFilters}}
        <p class="summary">{{summary}}</p>
        </header>
        <main>
        {{#hasFindings}}
        <section aria-labelledby="findings">
        <h2 id="findings">What to do <small>{{findingCount}}</small></h2>
        <ol class="findings">
        {{#findings}}
        <li class="{{kind}}"><p class="what"><b>{{label}}</b> {{text}}</p>{{#hasAction}}<p class="action">{{action}}</p>{{/hasAction}}</li>
        {{/findings}}
        </ol>
        </section>
        {{/hasFindings}}
        {{#isQuiet}}
        <p class="quiet">No problems found.</p>
        {{/isQuiet}}
        <section aria-labelledby="totals">
        <h2 id="totals">Recipients</h2>
        <dl class="tiles">
        {{#tiles}}
        <div{{#isMain}} class="main"{{/isMain}}><dt>{{label}}</dt><dd><b>{{count}}</b> <span>{{share}}</span>{{#isCompared}}<small>{{before}}</small>{{/isCompared}}</dd></div>
        {{/tiles}}
        </dl>
        </section>
        {{#trends}}
        <section class="card" aria-labelledby="trend">
        <h2 id="trend">{{title}}</h2>
        <p class="legend"><span class="r">rejected</span>{{#hasTempfailed}}<span class="t">deferred</span>{{/hasTempfailed}}{{#hasObserved}}<span class="o">observed only</span>{{/hasObserved}}</p>
        {{#graphics}}
        <svg class="trend {{name}}" viewBox="0 0 {{width}} {{height}}" role="img" aria-labelledby="{{name}}-title {{name}}-desc">
        <title id="{{name}}-title">{{title}}</title>
        <desc id="{{name}}-desc">{{description}}</desc>
        {{#ticks}}
        <line class="grid" x1="{{left}}" x2="{{right}}" y1="{{y}}" y2="{{y}}"/><text class="tick" x="{{textX}}" y="{{textY}}">{{text}}</text>
        {{/ticks}}
        {{#bars}}
        <g><title>{{title}}</title>{{#parts}}<rect class="{{kind}}" x="{{x}}" y="{{y}}" width="{{width}}" height="{{height}}"/>{{/parts}}</g>
        {{/bars}}
        {{#labels}}
        <text class="label" x="{{x}}" y="{{labelY}}">{{text}}</text>
        {{/labels}}
        </svg>
        {{/graphics}}
        <details>
        <summary>The figures</summary>
        <table class="figures">
        <thead><tr><th scope="col">{{unit}}</th><th scope="col" class="n">Rejected</th><th scope="col" class="n">Deferred</th><th scope="col" class="n">Observed</th><th scope="col" class="n">Accepted</th></tr></thead>
        <tbody>
        {{#rows}}
        <tr><th scope="row">{{label}}</th><td class="n">{{refused}}</td><td class="n">{{tempfailed}}</td><td class="n">{{observed}}</td><td class="n">{{accepted}}</td></tr>
        {{/rows}}
        </tbody>
        </table>
        </details>
        </section>
        {{/trends}}
        {{#tables}}
        <section class="card" aria-labelledby="{{id}}">
        <h2 id="{{id}}">{{title}}</h2>
        {{#hasNote}}
        <p class="note">{{note}}</p>
        {{/hasNote}}
        <table class="wide">
        <thead><tr>{{#columns}}<th scope="col" class="{{kind}}">{{title}}</th>{{/columns}}{{#hasBars}}<td class="bar"></td>{{/hasBars}}</tr></thead>
        <tbody>
        {{#rows}}
        <tr>{{#cells}}<td class="{{kind}}" data-title="{{title}}"><bdi>{{#parts}}<span>{{.}}</span> {{/parts}}</bdi>{{#hasNote}} <small><bdi>{{note}}</bdi></small>{{/hasNote}}</td>{{/cells}}{{#hasBars}}<td class="bar"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="r" width="{{width}}" height="10"/></svg></td>{{/hasBars}}</tr>
        {{/rows}}
        </tbody>
        </table>
        </section>
        {{/tables}}
        {{#limits}}
        <p class="limit">{{.}}</p>
        {{/limits}}
        {{#hasLists}}
        <div class="lists">
        {{#lists}}
        <section class="card">
        <h2>{{title}}</h2>
        <table class="top">
        <thead><tr><th scope="col" class="n">Rejections</th><th scope="col">{{column}}</th></tr></thead>
        <tbody>
        {{#rows}}
        <tr><td class="n">{{count}}</td><td><bdi>{{value}}</bdi>{{#hasNote}} <small><bdi>{{note}}</bdi></small>{{/hasNote}}<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="r" width="{{width}}" height="10"/></svg></td></tr>
        {{/rows}}
        </tbody>
        </table>
        </section>
        {{/lists}}
        </div>
        {{/hasLists}}
        </main>
        <footer><p>Made {{made}} by postern report. Rejections are RCPT commands with a 4xx or 5xx reply, and those that only observe mode accepted. Characters that aren't plainly visible are spelled out, such as \\x1b.</p></footer>
        </body>
        </html>

        """
}

extension ReportPage {
    /// The page's style sheet.
    static let style = """
        :root{color-scheme:light dark;--paper:#f7f6f3;--card:#fff;--ink:#1d2126;--soft:#59616b;--line:#e2dfd8;--refused:#3f5f9e;--off:#c98500;--observed:#7ba59a;--problem:#a8231b;--problem-paper:#fdf0ee;--notice:#7d5200;--notice-paper:#fdf6e6;--good:#1f6b3b;--good-paper:#eaf5ed}
        @media(prefers-color-scheme:dark){:root{--paper:#15181c;--card:#1e2227;--ink:#e9ebee;--soft:#a8b0ba;--line:#363c44;--refused:#86a6e6;--off:#e3a93c;--observed:#82b3a5;--problem:#ff9c92;--problem-paper:#3a2120;--notice:#f0c264;--notice-paper:#332a18;--good:#8ed3a3;--good-paper:#1c3024}}
        *{box-sizing:border-box}
        html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
        body{margin:0 auto;padding:2rem 1.5rem 3rem;max-width:66rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
        p,ol,dl,dd{margin:0;padding:0}
        h1{margin:.1rem 0 0;font-size:2rem;line-height:1.2;font-weight:650;letter-spacing:-.015em}
        h2{margin:0 0 .6rem;font-size:1.1rem;line-height:1.3;font-weight:650}
        h2 small{margin-left:.4rem;font-size:.9rem;font-weight:400;color:var(--soft)}
        small{font-size:.85rem;color:var(--soft)}
        bdi,.what,.action,.summary{overflow-wrap:anywhere}
        .mark{display:flex;align-items:center;gap:.5rem;margin-bottom:1.1rem;font-weight:600}
        .mark svg{fill:var(--refused)}
        .host{margin-left:auto;font-weight:400;color:var(--soft)}
        .period{color:var(--soft)}
        .period span::before{content:"\\00b7";margin:0 .35rem}
        .filters{margin-top:.5rem;padding:.15rem .7rem;display:inline-block;border:1px solid var(--line);border-radius:1rem;font-size:.9rem;overflow-wrap:anywhere}
        .summary{margin-top:.9rem;font-size:1.15rem;max-width:46rem}
        section,.quiet,.limit{margin-top:1.75rem}
        .findings{list-style:none;display:grid;gap:.6rem}
        .findings li{padding:.75rem 1rem;border-left:4px solid var(--notice);border-radius:0 .4rem .4rem 0;background:var(--notice-paper)}
        .findings li.problem{border-color:var(--problem);background:var(--problem-paper)}
        .what{font-weight:500}
        .what b{margin-right:.4rem;font-size:.75rem;letter-spacing:.06em;text-transform:uppercase;color:var(--notice)}
        .problem .what b{color:var(--problem)}
        .action{margin-top:.15rem;padding-left:1.3rem;position:relative}
        .action::before{content:"\\2192";position:absolute;left:0;color:var(--soft)}
        .quiet{padding:.75rem 1rem;border-left:4px solid var(--good);border-radius:0 .4rem .4rem 0;background:var(--good-paper);color:var(--good);font-weight:500}
        .limit{padding:.75rem 1rem;border-left:4px solid var(--notice);background:var(--notice-paper)}
        .limit+.limit{margin-top:.5rem}
        .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.75rem}
        .tiles div,.card{border:1px solid var(--line);border-radius:.6rem;background:var(--card)}
        .tiles div{padding:.8rem 1rem}
        .tiles div.main{border-top:4px solid var(--refused);padding-top:calc(.8rem - 3px)}
        .tiles dt{color:var(--soft);font-size:.9rem}
        .tiles dd b{font-size:1.6rem;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
        .tiles dd span{color:var(--soft);white-space:nowrap}
        .tiles dd{display:flex;flex-wrap:wrap;align-items:baseline;gap:0 .5rem}
        .tiles small{flex-basis:100%}
        .card{padding:1.1rem 1.25rem}
        .note{margin:-.35rem 0 .7rem;color:var(--soft)}
        table{width:100%;border-collapse:collapse;font-size:.92rem}
        th,td{padding:.38rem .8rem .38rem 0;text-align:left;vertical-align:top;border-top:1px solid var(--line);font-weight:400}
        thead th,thead td{border-top:0;padding-top:0;font-size:.82rem;color:var(--soft);white-space:nowrap}
        th:last-child,td:last-child{padding-right:0}
        .n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
        @media(min-width:40.01rem){.wide .n,.wide .d{width:1%}.wide .d:nth-child(2):last-child{width:auto}.wide .s:nth-child(2),.wide .s:nth-child(3){min-width:14.5em}}
        .d span{white-space:nowrap}
        .bar{width:26%;min-width:6rem;vertical-align:middle}
        .bar svg{display:block;width:100%;height:.6rem}
        .lists{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr));gap:1.25rem;margin-top:1.75rem}
        .lists section{margin:0}
        .top thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
        .top .n{width:4.5rem}
        .top tbody tr:first-child td{border-top:0}
        .top svg{display:block;width:100%;height:.2rem;margin-top:.15rem}
        .r{fill:var(--refused)}.t{fill:var(--off)}.o{fill:var(--observed)}
        .legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:-.35rem 0 .5rem;font-size:.88rem;color:var(--soft)}
        .legend span::before{content:"";display:inline-block;width:.7rem;height:.7rem;margin-right:.4rem;border-radius:2px;background:var(--refused)}
        .legend .t::before{background:var(--off)}.legend .o::before{background:var(--observed)}
        .trend{display:block;width:100%;height:auto}
        .trend.narrow{display:none}
        .trend text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
        .tick{text-anchor:end}.label{text-anchor:middle}
        .grid{stroke:var(--line)}
        details{margin-top:.6rem}
        summary{color:var(--soft);font-size:.9rem;cursor:pointer}
        .figures{margin-top:.6rem}
        footer{margin-top:2.25rem;font-size:.85rem;color:var(--soft)}
        @media(max-width:40rem){
        body{padding:1.25rem 1rem 2rem}
        h1{font-size:1.6rem}
        .summary{font-size:1.05rem}
        .tiles{grid-template-columns:1fr 1fr}
        .tiles div{padding:.65rem .8rem}
        .tiles dd b{font-size:1.4rem}
        .card{padding:.9rem 1rem}
        .trend.wide{display:none}.trend.narrow{display:block}
        .figures{font-size:.86rem}
        .figures th,.figures td{padding-right:.5rem}
        table.wide,table.wide tbody,table.wide tr{display:block}
        table.wide thead,table.wide .bar{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
        table.wide tr{padding:.5rem 0;border-top:1px solid var(--line)}
        table.wide tbody tr:first-child{border-top:0;padding-top:0}
        table.wide td{display:grid;width:auto;grid-template-columns:6.5rem 1fr;padding:.08rem 0;border:0;text-align:left;white-space:normal}
        table.wide td::before{content:attr(data-title);color:var(--soft);font-size:.85rem}
        table.wide td small{grid-column:2}
        }
        @media print{
        @page{margin:14mm}
        :root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--refused:#3f5f9e;--off:#c98500;--observed:#7ba59a;--problem:#a8231b;--problem-paper:#fff;--notice:#7d5200;--notice-paper:#fff;--good:#1f6b3b;--good-paper:#fff}
        body{max-width:none;padding:0;font-size:10.5pt}
        *{-webkit-print-color-adjust:exact;print-color-adjust:exact}
        section,.quiet,.limit,.lists{margin-top:1.1rem}
        .findings li,.tiles div,.card,tr,svg{break-inside:avoid}
        table{font-size:9pt}
        h2,.note,thead{break-after:avoid}
        .lists{grid-template-columns:1fr 1fr}
        details::details-content{content-visibility:visible;height:auto}
        }
        """
}
