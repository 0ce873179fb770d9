/// The one page, without anything from elsewhere.
enum Page {
    /// - Parameter nonce: by what the answer's policy knows the page's own script and style.
    static func html(nonce: String) -> String {
        template.split(separator: "NONCE", omittingEmptySubsequences: false).joined(separator: nonce)
    }

    private static let template = #"""
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Demux</title>
        <style nonce="NONCE">
        :root { color-scheme: light dark; --back: #f4f5f7; --card: #fff; --text: #1c2128; --soft: #68707c; --line: #dfe2e8; --accent: #2f6fde; --bad: #b3423a; }
        @media (prefers-color-scheme: dark) {
          :root { --back: #14171c; --card: #1d2128; --text: #e6e9ee; --soft: #949ca8; --line: #2d333d; --accent: #6ea3ff; --bad: #f0837a; }
        }
        * { box-sizing: border-box; }
        body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
        header { display: flex; align-items: baseline; gap: .75rem; max-width: 1240px; margin: 0 auto; padding: 1.6rem 1.25rem .4rem; }
        h1 { margin: 0; font-size: 1.35rem; letter-spacing: -.01em; }
        #summary { color: var(--soft); }
        #note { max-width: 1240px; margin: 0 auto; padding: 0 1.25rem; color: var(--bad); }
        main { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 1.1rem; max-width: 1240px; margin: 0 auto; padding: 1rem 1.25rem 3rem; }
        .card { display: block; background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; color: inherit; text-decoration: none;
          transition: border-color .15s, box-shadow .15s; }
        a.card:hover, a.card:focus-visible { border-color: var(--accent); box-shadow: 0 4px 18px rgb(0 0 0 / 12%); outline: none; }
        .screen { position: relative; aspect-ratio: 4 / 3; background: #0b0d10; display: grid; place-items: center; }
        .screen img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
        .screen span { color: #8b94a1; font-size: .85rem; padding: 0 1.2rem; text-align: center; overflow-wrap: anywhere; max-height: 100%; }
        .about { padding: .7rem .9rem .85rem; }
        .name { display: flex; justify-content: space-between; gap: .5rem; font-weight: 600; }
        .name b { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
        .name i { color: var(--soft); font-style: normal; font-weight: 400; white-space: nowrap; }
        .detail { color: var(--soft); font-size: .85rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
        .detail.bad { color: var(--bad); }
        .empty { grid-column: 1 / -1; padding: 4rem 1rem; text-align: center; color: var(--soft); }
        code { font-size: .92em; }
        </style>
        </head>
        <body>
        <header><h1>Demux</h1><span id="summary">looking for guests …</span></header>
        <p id="note" hidden></p>
        <main id="guests"></main>
        <script nonce="NONCE">
        "use strict";
        const main = document.getElementById("guests"), summary = document.getElementById("summary"), note = document.getElementById("note");
        const cards = new Map();
        const make = (tag, name) => { const element = document.createElement(tag); if (name) element.className = name; return element; };
        const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

        function card(number) {
          const root = make("a", "card"), screen = make("div", "screen"), image = make("img"), hint = make("span");
          const about = make("div", "about"), line = make("div", "name"), name = make("b"), place = make("i"), detail = make("div", "detail");
          image.hidden = true; image.alt = "";
          hint.textContent = "…";
          screen.append(hint, image); line.append(name, place); about.append(line, detail); root.append(screen, about);
          return { number, root, image, hint, name, place, detail, busy: false };
        }

        function show(card, guest, novnc) {
          const label = guest.name || "domain " + guest.domain;
          put(card.name, label);
          put(card.place, guest.name ? (guest.host ? guest.host + " · " : "") + "domain " + guest.domain : guest.host);
          const running = guest.state === "running";
          card.detail.classList.toggle("bad", !running);
          put(card.detail, running ? (guest.emulators.join(", ") || "no emulators") : guest.state);
          card.detail.title = card.detail.textContent;
          card.image.alt = "Screen of " + label;
          if (running && guest.vnc && novnc) {
            card.root.href = "/novnc/vnc.html?autoconnect=true&resize=scale&reconnect=true&path=" + encodeURIComponent("guests/" + guest.domain + "/vnc");
            card.root.target = "_blank"; card.root.rel = "noopener"; card.root.title = "Open " + label;
          } else {
            card.root.removeAttribute("href");
            card.root.title = !running ? guest.state : guest.vnc ? "noVNC is not installed" : "this guest has no VNC exporter for this page";
          }
        }

        async function thumbnail(card) {
          if (card.busy) return;
          card.busy = true;
          try {
            const answer = await fetch("/guests/" + card.number + "/thumbnail.png", { cache: "no-cache" });
            if (answer.ok) {
              const tag = answer.headers.get("etag");
              if (tag && tag === card.tag && !card.image.hidden) return;
              const url = URL.createObjectURL(await answer.blob()), old = card.url;
              card.url = url; card.tag = tag;
              card.image.onload = () => { card.image.hidden = false; if (old) URL.revokeObjectURL(old); };
              card.image.src = url;
            } else {
              card.image.hidden = true;
              put(card.hint, (await answer.text()).trim());
            }
          } catch { /* the list says when the server is gone */ } finally { card.busy = false; }
        }

        async function refresh() {
          if (document.hidden) return;
          try {
            const list = await (await fetch("/guests.json", { cache: "no-store" })).json();
            const count = list.guests.length;
            put(summary, count === 1 ? "1 guest" : count + " guests");
            note.hidden = list.novnc || count === 0;
            put(note, note.hidden ? "" : "noVNC is not installed on this host, so guests can only be looked at: apt-get install novnc");
            const seen = new Set();
            for (const guest of list.guests) {
              seen.add(guest.domain);
              if (!cards.has(guest.domain)) cards.set(guest.domain, card(guest.domain));
              show(cards.get(guest.domain), guest, list.novnc);
            }
            for (const [number, card] of cards) if (!seen.has(number)) { card.root.remove(); if (card.url) URL.revokeObjectURL(card.url); cards.delete(number); }
            const order = [...cards.keys()].sort((a, b) => a - b).map((number) => cards.get(number).root);
            if (order.length === 0) {
              const empty = make("div", "empty");
              empty.append("No guests run here. ", Object.assign(make("code"), { textContent: "demux run guest.yaml" }), " or xl starts one; sockets are looked for in ",
                Object.assign(make("code"), { textContent: list.directory }), ".");
              main.replaceChildren(empty);
            } else if (order.length !== main.children.length || order.some((root, index) => root !== main.children[index])) {
              main.replaceChildren(...order);
            }
            for (const guest of list.guests) {
              const card = cards.get(guest.domain);
              if (guest.state === "running") thumbnail(card);
              else { card.image.hidden = true; put(card.hint, guest.state); }
            }
          } catch {
            put(summary, "demux web does not answer");
          }
        }
        refresh();
        setInterval(refresh, 2000);
        document.addEventListener("visibilitychange", refresh);
        </script>
        </body>
        </html>
        """#
}
