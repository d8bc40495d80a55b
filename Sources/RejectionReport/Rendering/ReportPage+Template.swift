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
        <p class="quiet">Nothing asks for your attention.</p>
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
