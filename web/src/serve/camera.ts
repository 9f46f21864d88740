// A photograph by this machine's camera, where the browser allows it.
import { h } from "../dom";

const QUALITY = 0.95;

/** Opens a window with the camera's picture; the photograph that is taken, or null. Throws where there is no camera. */
export async function photograph(): Promise<Blob | null> {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const video = h("video", { autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
  video.muted = true;
  video.srcObject = stream;
  const take = h("button", { type: "button", class: "strong" }, "Take the photo");
  const leave = h("button", { type: "button" }, "Cancel");
  const dialog = h("dialog", { class: "camera", "aria-label": "Camera" }, video, h("div", { class: "tools" }, take, leave));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((done) => {
    const end = (photo: Blob | null) => {
      stream.getTracks().forEach((track) => track.stop());
      dialog.remove();
      done(photo);
    };
    take.addEventListener("click", () => {
      const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d")!.drawImage(video, 0, 0);
      canvas.toBlob(end, "image/jpeg", QUALITY);
    });
    leave.addEventListener("click", () => end(null));
    dialog.addEventListener("cancel", () => end(null));
  });
}
