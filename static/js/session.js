// A stretch of work: when it began, a word when it has been long, and a break in which the clock stands still.
(() => {
  const BREAK = 10 * 60e3; // Without an answer for so long, the next one begins a new stretch.
  const LONG = 50 * 60e3;
  const AGAIN = 25 * 60e3;

  class Session {
    constructor(name, dialog, { pauseClock, resume }) {
      Object.assign(this, { name, dialog, pauseClock, resume });
      dialog.addEventListener("close", () => {
        this.keep({}); // Whoever took a break begins anew.
        this.resume();
      });
    }

    get isPaused() {
      return this.dialog.open;
    }

    pause() {
      this.dialog.showModal();
      this.pauseClock();
    }

    kept() {
      try {
        return JSON.parse(localStorage.getItem(this.name)) || {};
      } catch {
        return {};
      }
    }

    keep(stretch) {
      try {
        localStorage.setItem(this.name, JSON.stringify(stretch));
      } catch {
        // A browser that keeps nothing gives no hints.
      }
    }

    // Called at every answer; the minutes of the stretch when it is time to say so, else 0.
    answered(now = Date.now()) {
      let { begun = now, last = now, said = 0 } = this.kept();
      if (now - last > BREAK) [begun, said] = [now, 0];
      const isLong = now - begun >= LONG && now - said >= AGAIN;
      this.keep({ begun, last: now, said: isLong ? now : said });
      return isLong ? Math.round((now - begun) / 60e3) : 0;
    }
  }

  window.Session = Session;
})();
