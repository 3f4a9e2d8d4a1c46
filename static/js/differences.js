// Marks the words that differ between two texts, by the browser's highlights: the page's elements stay as they are.
(() => {
  const MOST_WORDS = 4000;
  const MOST_STEPS = 1500;
  const LIKE = 0.35; // Of the shorter text's words: with fewer in common, marking all the others says nothing.

  const words = (root) => {
    const found = [];
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node && found.length <= MOST_WORDS; node = walker.nextNode()) {
      for (const match of node.data.matchAll(/[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu))
        found.push({ node, start: match.index, end: match.index + match[0].length, text: match[0] });
    }
    return found;
  };

  // Myers' greedy shortest edit script: which words of either side are in the longest common subsequence.
  const common = (a, b) => {
    const size = a.length + b.length;
    const reach = new Map([[1, 0]]);
    const trail = [];
    for (let d = 0; d <= Math.min(size, MOST_STEPS); d++) {
      trail.push(new Map(reach));
      for (let k = -d; k <= d; k += 2) {
        const down = k === -d || (k !== d && reach.get(k - 1) < reach.get(k + 1));
        let x = down ? reach.get(k + 1) : reach.get(k - 1) + 1;
        while (x < a.length && x - k < b.length && a[x].text === b[x - k].text) x++;
        reach.set(k, x);
        if (x >= a.length && x - k >= b.length) return backtrack(trail, a, b);
      }
    }
    return null;
  };

  const backtrack = (trail, a, b) => {
    const pairs = [];
    let x = a.length;
    let y = b.length;
    for (let d = trail.length - 1; d >= 0; d--) {
      const reach = trail[d];
      const k = x - y;
      const before = k === -d || (k !== d && reach.get(k - 1) < reach.get(k + 1)) ? k + 1 : k - 1;
      const fromX = d === 0 ? 0 : reach.get(before);
      const fromY = d === 0 ? 0 : fromX - before;
      while (x > fromX && y > fromY) pairs.push([--x, --y]);
      x = fromX;
      y = fromY;
    }
    return pairs;
  };

  const range = ({ node, start, end }) =>
    new StaticRange({ startContainer: node, startOffset: start, endContainer: node, endOffset: end });

  const clear = () => window.CSS?.highlights?.delete("differs");

  // "marked"; or "unlike" where little is shared, "too-long" where it would take long, "no-support" in old browsers.
  const mark = (left, right) => {
    clear();
    if (!window.CSS?.highlights) return "no-support";
    const a = words(left);
    const b = words(right);
    if (a.length > MOST_WORDS || b.length > MOST_WORDS) return "too-long";
    const pairs = common(a, b);
    if (!pairs || pairs.length < LIKE * Math.min(a.length, b.length)) return "unlike";
    const sameA = new Set(pairs.map(([x]) => x));
    const sameB = new Set(pairs.map(([, y]) => y));
    const different = [...a.filter((_, i) => !sameA.has(i)), ...b.filter((_, i) => !sameB.has(i))];
    CSS.highlights.set("differs", new Highlight(...different.map(range)));
    return "marked";
  };

  window.Differences = { mark, clear };
})();
