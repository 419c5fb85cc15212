// Search on pages that are opened as files. Browsers start no Worker from a file, and Material's search is one. This class
// runs the worker's script in a hidden frame instead; Material looks for it by the name IFrameWorker.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.started = new Promise((started) => {
        this.frame.addEventListener("load", () => this.run(url, started), { once: true });
      });
      document.body.append(this.frame);
    }

    // The script says postMessage() to answer, and listens to "message", as in a worker.
    run(url, started) {
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = new URL(url, location.href).href;
      script.addEventListener("load", () => started(inside));
      inside.document.body.append(script);
    }

    postMessage(data) {
      this.started.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
