// Answers on their way: kept in this browser until the server has them, sent in order, each once.
// The server takes one answer per lease, so that a repeat after a lost reply is the same answer.
(() => {
  const WAITS = [1000, 2000, 4000, 8000, 15000, 30000];

  class Outbox {
    // `send(entry)` fetches; `heard(kind, entry, response, text)` is told what became of it.
    constructor(name, send, heard) {
      Object.assign(this, { name, send, heard, failures: 0, sending: null, timer: 0, memory: [] });
    }

    entries() {
      try {
        return JSON.parse(localStorage.getItem(this.name)) || [];
      } catch {
        return this.memory;
      }
    }

    keep(entries) {
      this.memory = entries;
      try {
        if (entries.length) localStorage.setItem(this.name, JSON.stringify(entries));
        else localStorage.removeItem(this.name);
      } catch {
        // A browser that keeps nothing still sends what this page holds.
      }
    }

    has(lease) {
      return this.entries().some((entry) => entry.lease === lease);
    }

    add(entry) {
      this.keep([...this.entries().filter((other) => other.lease !== entry.lease), entry]);
      return this.flush();
    }

    remove(lease) {
      this.keep(this.entries().filter((entry) => entry.lease !== lease));
    }

    flush() {
      clearTimeout(this.timer);
      this.sending ??= this.exclusively(() => this.sendAll()).finally(() => (this.sending = null));
      return this.sending;
    }

    // One tab sends at a time, where the browser knows locks; elsewhere the server sorts it out.
    exclusively(work) {
      return navigator.locks ? navigator.locks.request(this.name, work) : work();
    }

    async sendAll() {
      for (let entry = this.entries()[0]; entry; entry = this.entries()[0]) {
        if (!(await this.sendOne(entry))) return;
      }
    }

    async sendOne(entry) {
      let response, text;
      try {
        response = await this.send(entry);
        text = response.type === "opaqueredirect" ? "" : await response.text();
      } catch {
        return this.later("offline", entry);
      }
      if (response.type === "opaqueredirect" || response.status === 401) return this.later("signed-out", entry);
      if (response.status === 403) return this.later("refused", entry);
      if (response.status === 429) return this.later("limited", entry, response, text);
      if (response.status >= 500 || response.status === 408)
        return this.later("offline", entry);
      this.failures = 0;
      this.remove(entry.lease);
      this.heard(response.ok ? "sent" : "lost", entry, response, text);
      return true;
    }

    later(kind, ...said) {
      const wait = WAITS[Math.min(this.failures++, WAITS.length - 1)];
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.flush(), wait);
      this.heard(kind, ...said);
      return false;
    }
  }

  window.Outbox = Outbox;
})();
