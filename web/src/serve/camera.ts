// Take a photo with the camera of this device.
import { h } from "../dom";

const QUALITY = 0.95;

/** Open a dialog with the camera's video; resolves to a JPEG photo, or null if canceled. Throws without a camera. */
export async function takePhoto(): Promise<Blob | null> {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const video = h("video", { autoplay: true, playsinline: true, "aria-label": "Camera video" });
  video.muted = true;
  video.srcObject = stream;
  const take = h("button", { type: "button", class: "strong" }, "Take the photo");
  const cancel = h("button", { type: "button" }, "Cancel");
  const dialog = h("dialog", { class: "camera", "aria-label": "Camera" }, video, h("div", { class: "tools" }, take, cancel));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((done) => {
    const close = (photo: Blob | null) => {
      stream.getTracks().forEach((track) => track.stop());
      dialog.remove();
      done(photo);
    };
    take.addEventListener("click", () => {
      const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d")!.drawImage(video, 0, 0);
      canvas.toBlob(close, "image/jpeg", QUALITY);
    });
    cancel.addEventListener("click", () => close(null));
    dialog.addEventListener("cancel", () => close(null));
  });
}
