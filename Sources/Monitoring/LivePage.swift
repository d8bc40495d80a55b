/// The live page, which shows ``LiveDocument`` and reads it again every three seconds.
///
/// The script sets text from outside as text, never as markup. The security policy keeps the browser from running or loading anything from
/// another server.
enum LivePage {
    static let securityPolicy =
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        + "form-action 'none'; frame-ancestors 'none'"

    static let html = #"""
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>Postern</title>
        <link rel="icon" href="data:,">
        <link rel="stylesheet" href="/page.css">
        <script src="/page.js" defer></script>
        </head>
        <body>
        <header>
          <h1>Postern</h1>
          <p id="state" class="state" role="status">loading …</p>
          <p id="about" class="quiet"></p>
        </header>
        <main>
          <ul id="troubles" class="troubles" aria-label="Problems" hidden></ul>
          <section aria-labelledby="hour">
            <h2 id="hour">Last hour</h2>
            <dl id="sums" class="sums"></dl>
            <figure>
              <svg id="chart" role="img" aria-label="Verdicts by minute" preserveAspectRatio="none"></svg>
              <div class="axis quiet" aria-hidden="true"><span>60 min ago</span><span id="peak"></span><span>now</span></div>
            </figure>
          </section>
          <section aria-labelledby="recipients">
            <h2 id="recipients">Recipient list</h2>
            <dl id="index" class="facts"></dl>
          </section>
          <section aria-labelledby="service">
            <h2 id="service">Filter</h2>
            <dl id="filter" class="facts"></dl>
          </section>
          <section aria-labelledby="rejections">
            <h2 id="rejections">Latest rejections and deferrals</h2>
            <table>
              <thead><tr><th>Time</th><th>Reason</th><th>Recipient</th><th>Sender</th><th>Client</th></tr></thead>
              <tbody id="newest"></tbody>
            </table>
            <p id="none" class="quiet" hidden>None yet.</p>
          </section>
        </main>
        <noscript><p>This page needs JavaScript. Without it, use <code>postern status</code> or <a href="/metrics">the metrics</a>.</p></noscript>
        </body>
        </html>
        """#

    static let style = #"""
        :root {
          --ground: #f6f7f9; --card: #fff; --ink: #1c2430; --quiet: #5d6878; --line: #e0e4ea;
          --accepted: #b9c6d6; --refused: #c2410c; --tempfailed: #b58105; --observed: #6d5bd0;
          --good: #17723f; --good-ground: #e3f4ea; --bad: #a3211c; --bad-ground: #fdeceb;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --ground: #11151b; --card: #1a2029; --ink: #e6eaf0; --quiet: #95a1b2; --line: #2b3441;
            --accepted: #465468; --refused: #f0803c; --tempfailed: #d9ab3a; --observed: #9b8cf0;
            --good: #6fd39a; --good-ground: #163324; --bad: #ff9c94; --bad-ground: #3b1d1d;
          }
        }
        * { box-sizing: border-box; }
        body {
          margin: 0 auto; padding: 1.5rem; max-width: 68rem; background: var(--ground); color: var(--ink);
          font: 15px/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif; font-variant-numeric: tabular-nums;
        }
        header { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem .9rem; margin-bottom: 1.25rem; }
        h1 { font-size: 1.5rem; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
        h2 { font-size: 1rem; margin: 0 0 .9rem; }
        p, dl, dd, figure { margin: 0; }
        .quiet { color: var(--quiet); }
        .state { padding: .1rem .7rem; border-radius: 1rem; font-weight: 600; background: var(--line); }
        .state.good { color: var(--good); background: var(--good-ground); }
        .state.bad { color: var(--bad); background: var(--bad-ground); }
        #about { margin-left: auto; }
        main { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
        section, .troubles { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1.1rem 1.25rem; }
        section:nth-of-type(1), section:nth-of-type(4), .troubles { grid-column: 1 / -1; }
        .troubles { list-style: none; margin: 0; background: var(--bad-ground); border-color: transparent; }
        .troubles li + li { margin-top: .7rem; }
        .troubles strong { color: var(--bad); font-weight: 600; display: block; overflow-wrap: anywhere; }
        .sums { display: grid; grid-template-columns: repeat(4, auto); justify-content: start; gap: 0 2.5rem; margin-bottom: 1rem; }
        .sums dt { color: var(--quiet); }
        .sums dt::before { content: ""; display: inline-block; width: .6rem; height: .6rem; border-radius: .15rem; margin-right: .4rem; background: var(--line); }
        .sums .accepted dt::before { background: var(--accepted); }
        .sums .refused dt::before { background: var(--refused); }
        .sums .tempfailed dt::before { background: var(--tempfailed); }
        .sums .observed dt::before { background: var(--observed); }
        .sums dd { font-size: 1.6rem; font-weight: 650; line-height: 1.25; }
        svg { display: block; width: 100%; height: 9rem; border-bottom: 1px solid var(--line); }
        rect.accepted { fill: var(--accepted); } rect.refused { fill: var(--refused); }
        rect.tempfailed { fill: var(--tempfailed); } rect.observed { fill: var(--observed); }
        .axis { display: flex; justify-content: space-between; font-size: .85rem; padding-top: .3rem; }
        table { width: 100%; border-collapse: collapse; table-layout: fixed; }
        th { text-align: left; font-weight: 500; color: var(--quiet); font-size: .85rem; }
        th, td { padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
        tbody tr:last-child td { border-bottom: 0; padding-bottom: 0; }
        th:nth-child(1) { width: 6rem; } th:nth-child(2) { width: 7.5rem; } th:nth-child(3) { width: 34%; } th:nth-child(5) { width: 20%; }
        td { unicode-bidi: plaintext; }
        .reason { font-weight: 600; color: var(--refused); }
        .tempfailed .reason { color: var(--tempfailed); }
        .observed .reason { color: var(--observed); }
        td small { display: block; color: var(--quiet); font-size: .85em; font-weight: 400; }
        .facts { display: grid; grid-template-columns: 7.5rem 1fr; gap: .35rem 1rem; }
        .facts dt { color: var(--quiet); overflow-wrap: anywhere; }
        .facts dd { overflow-wrap: anywhere; }
        .facts .bad { color: var(--bad); }
        .stale main { opacity: .55; }
        @media (max-width: 46rem) {
          body { padding: 1rem; }
          main { grid-template-columns: minmax(0, 1fr); }
          #about { margin-left: 0; width: 100%; }
          .sums { grid-template-columns: repeat(auto-fit, minmax(5.5rem, 1fr)); gap: .6rem 1rem; }
          svg { height: 7rem; }
          thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
          table, tbody { display: block; }
          tr { display: grid; grid-template-columns: auto 1fr; gap: 0 .7rem; padding: .55rem 0; border-bottom: 1px solid var(--line); }
          tr:last-child { border-bottom: 0; padding-bottom: 0; }
          td { border: 0; padding: 0; }
          td:nth-child(2) { text-align: right; }
          td:nth-child(2) small { display: inline; margin-left: .4rem; }
          td:nth-child(n+3) { grid-column: 1 / -1; }
          td:nth-child(4)::before { content: "from "; color: var(--quiet); }
          td:nth-child(5)::before { content: "by "; color: var(--quiet); }
          td:nth-child(5) small { display: inline; margin-left: .4rem; }
          .facts { grid-template-columns: 6.5rem 1fr; }
        }
        """#

    static let script = #"""
        "use strict";
        const kinds = [["refused", "Rejected"], ["tempfailed", "Deferred"], ["observed", "Observed"], ["accepted", "Accepted"]];
        const at = (id) => document.getElementById(id);
        const number = (value) => value.toLocaleString("en");
        const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

        /// Makes an element with a text, which is never read as markup.
        function make(name, text, kind) {
          const element = document.createElement(name);
          if (text !== undefined) element.textContent = text;
          if (kind) element.className = kind;
          return element;
        }

        function span(seconds) {
          const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
          for (const [name, length] of units) if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${name}s`;
          return count(Math.max(0, Math.floor(seconds)), "second");
        }

        function facts(list, rows) {
          list.replaceChildren(...rows.flatMap(([term, text, kind]) => [make("dt", term), make("dd", text, kind)]));
        }

        function showSums(minutes) {
          const shown = kinds.filter(([kind]) => kind !== "observed" || minutes.some((minute) => minute.observed > 0));
          at("sums").replaceChildren(...shown.map(([kind, name]) => {
            const group = make("div", undefined, kind);
            group.append(make("dt", name), make("dd", number(minutes.reduce((sum, minute) => sum + minute[kind], 0))));
            return group;
          }));
        }

        function showChart(minutes) {
          const peak = Math.max(1, ...minutes.map((minute) => kinds.reduce((sum, [kind]) => sum + minute[kind], 0)));
          const chart = at("chart");
          chart.setAttribute("viewBox", `0 0 ${minutes.length * 10} 100`);
          const bars = [];
          minutes.forEach((minute, place) => {
            let top = 100;
            for (const [kind] of kinds) {
              if (!minute[kind]) continue;
              // A minute with a single verdict has a visible bar.
              const height = Math.max(minute[kind] / peak * 100, 1);
              top -= height;
              const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
              bar.setAttribute("class", kind);
              bar.setAttribute("x", place * 10 + 1);
              bar.setAttribute("width", 8);
              bar.setAttribute("y", Math.max(0, top));
              bar.setAttribute("height", height);
              bars.push(bar);
            }
          });
          chart.replaceChildren(...bars);
          at("peak").textContent = bars.length ? `peak: ${number(peak)} a minute` : "";
        }

        function showNewest(entries) {
          at("none").hidden = entries.length > 0;
          at("newest").replaceChildren(...entries.map((entry) => {
            const row = make("tr", undefined, entry.observed ? "observed" : entry.outcome);
            const time = make("td", new Date(entry.time).toLocaleTimeString("en-GB"));
            time.title = entry.time;
            const reason = make("td", entry.reason, "reason");
            if (entry.observed) reason.append(make("small", "observed"));
            else if (entry.outcome === "tempfailed") reason.append(make("small", "deferred"));
            const client = make("td", entry.client || "unknown");
            if (entry.client_name) client.append(make("small", entry.client_name));
            const recipient = make("td", entry.recipient || "<>");
            recipient.title = entry.reply;
            row.append(time, reason, recipient, make("td", entry.sender || "<>"), client);
            return row;
          }));
        }

        function showList(live, now) {
          const { index, index_expected: isExpected } = live.filter;
          const sync = live.sync || { sources: [], refused: false };
          const age = (time) => now - new Date(time) / 1000;
          const rows = [];
          if (index) {
            const parts = [count(index.recipients, "recipient")];
            if (index.catch_all_domains) parts.push(count(index.catch_all_domains, "catch-all domain"));
            if (index.leaving) parts.push(`${number(index.leaving)} leaving`);
            const seconds = age(index.created);
            const made = seconds < -300 ? `dated ${span(-seconds)} in the future` : `${span(seconds)} ago`;
            rows.push(["in use", parts.join(", ")], ["made", `${made}, generation ${number(index.generation)}`]);
          } else {
            rows.push(["in use", "no index", isExpected ? "bad" : ""]);
          }
          for (const source of sync.sources) {
            const synced = source.as_of ? `${span(age(source.as_of))} ago` : "never";
            rows.push(source.failure
              ? [source.name, `can’t be read; the list last synced ${synced} stays in use`, "bad"]
              : [source.name, `${count(source.recipients, "recipient")}, last synced ${synced}${source.method ? ` (${source.method})` : ""}`]);
          }
          if (sync.refused) rows.push(["newest list", "rejected", "bad"]);
          facts(at("index"), rows);
        }

        function showFilter(live, now) {
          const { filter } = live;
          const { log, harvest, sessions } = filter;
          const full = log.queue_capacity ? Math.round(log.queued / log.queue_capacity * 100) : 0;
          const omitted = log.thinned ? `, ${number(log.thinned)} left out` : "";
          const held = harvest.held ? `, ${number(harvest.held)} in the tarpit` : "";
          facts(at("filter"), [
            ["sessions", `${number(sessions.open)} open, ${number(sessions.total)} since the start`],
            ["mode", filter.mode],
            ["relay domains", number(filter.domains)],
            ["harvest", `${count(harvest.offenders, "network")} over the limit${held}`],
            log.failing
              ? ["log", "can’t be written", "bad"]
              : ["log", `${count(log.written, "row")} written, queue ${full} % full${omitted}`],
            ["process", `${filter.process}, up ${span(now - new Date(filter.started) / 1000)}`],
            ["socket", filter.socket],
          ]);
        }

        function show(live) {
          const now = new Date(live.now) / 1000;
          const { troubles } = live;
          at("state").textContent = troubles.length ? count(troubles.length, "problem") : "All is well";
          at("state").className = `state ${troubles.length ? "bad" : "good"}`;
          document.title = troubles.length ? `(${troubles.length}) Postern` : "Postern";
          at("about").textContent = `version ${live.filter.version}, ${new Date(live.now).toLocaleTimeString("en-GB")}`;
          at("troubles").hidden = troubles.length === 0;
          at("troubles").replaceChildren(...troubles.map((trouble) => {
            const item = make("li");
            item.append(make("strong", trouble.text), make("span", trouble.advice));
            return item;
          }));
          showSums(live.minutes);
          showChart(live.minutes);
          showNewest(live.newest);
          showList(live, now);
          showFilter(live, now);
        }

        async function refresh() {
          try {
            const answer = await fetch("/live.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
            if (!answer.ok) throw new Error(answer.statusText);
            show(await answer.json());
            document.body.classList.remove("stale");
          } catch {
            document.body.classList.add("stale");
            at("state").textContent = "No answer from the filter";
            at("state").className = "state bad";
          }
          setTimeout(refresh, 3000);
        }

        refresh();
        """#
}
