"""The resize of `data.images.Square` as ONNX, before a model of squares: pictures of any size come in."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

WHOLE = """
   picture_levels = Resize<antialias = 1, exclude_outside = 1, axes = [2, 3], mode = "{mode}"{cubic}>(images, , , sides)
   {output} = Cast<to = 1>(picture_levels)
"""

KEPT = """
   picture_sides = Shape<start = 2, end = 4>(images)
   picture_alike = Equal(picture_sides, kept)
   picture_bits = Cast<to = 6>(picture_alike)
   picture_all = ReduceMin<keepdims = 0>(picture_bits)
   picture_kept = Cast<to = 9>(picture_all)
   squares = If (picture_kept) <
      then_branch = exact () => (float[N, 3, {side}, {side}] picture_exact) {{
        picture_values = Cast<to = 1>(images)
        picture_exact = Resize<antialias = 1, exclude_outside = 1, axes = [2, 3], mode = "linear">
          (picture_values, , , sides)
      }},
      else_branch = rounded () => (float[N, 3, {side}, {side}] picture_rounded) {{
        picture_rounded = Identity(picture_squares)
      }}
   >
"""

CROP = """
   picture_sides = Shape<start = 2, end = 4>(images)
   picture_shorter = ReduceMin<keepdims = 0>(picture_sides)
   picture_spare = Sub(picture_sides, picture_shorter)
   picture_firsts = Div(picture_spare, two)
   picture_length = Cast<to = 11>(picture_shorter)
   picture_scale = Div(picture_length, side)
   picture_reach = Max(picture_scale, one)
   picture_numbers = Range(zero, side, one)
   picture_middles = Add(picture_numbers, half)
   picture_steps = Mul(picture_middles, picture_scale)
{taps_of_height}
{taps_of_width}
   picture_values = Cast<to = 1>(images)
   width_sums = MatMul(picture_values, width_weights)
   width_raised = Add(width_sums, rounding)
   width_whole = Floor(width_raised)
   width_levels = Clip(width_whole, darkest, brightest)
   height_columns = Transpose<perm = [1, 0]>(height_weights)
   height_sums = MatMul(height_columns, width_levels)
   height_raised = Add(height_sums, rounding)
   height_whole = Floor(height_raised)
   squares = Clip(height_whole, darkest, brightest)
"""

TAPS = """
   {axis}_first_whole = Gather(picture_firsts, {place})
   {axis}_first = Cast<to = 11>({axis}_first_whole)
   {axis}_centers = Add({axis}_first, picture_steps)
   {axis}_extent_whole = Gather(picture_sides, {place})
   {axis}_extent = Cast<to = 11>({axis}_extent_whole)
   {axis}_numbers = Range(zero, {axis}_extent, one)
   {axis}_places = Add({axis}_numbers, half)
   {axis}_column = Unsqueeze({axis}_places, last_axis)
   {axis}_gaps = Sub({axis}_column, {axis}_centers)
   {axis}_far = Div({axis}_gaps, picture_reach)
   {axis}_d = Abs({axis}_far)
{filter}
   {axis}_total = ReduceSum({axis}_shares, first_axis)
   {axis}_precise = Div({axis}_shares, {axis}_total)
   {axis}_weights = Cast<to = 1>({axis}_precise)
"""

TRIANGLE = """
   {axis}_slope = Sub(one, {axis}_d)
   {axis}_shares = Max({axis}_slope, zero)
"""

KEYS = """
   {axis}_near_a = Mul({axis}_d, three_halves)
   {axis}_near_b = Sub({axis}_near_a, five_halves)
   {axis}_square = Mul({axis}_d, {axis}_d)
   {axis}_near_c = Mul({axis}_near_b, {axis}_square)
   {axis}_near = Add({axis}_near_c, one)
   {axis}_away_a = Sub({axis}_d, five)
   {axis}_away_b = Mul({axis}_away_a, {axis}_d)
   {axis}_away_c = Add({axis}_away_b, eight)
   {axis}_away_d = Mul({axis}_away_c, {axis}_d)
   {axis}_away_e = Sub({axis}_away_d, four)
   {axis}_away_f = Mul({axis}_away_e, half)
   {axis}_away = Neg({axis}_away_f)
   {axis}_is_near = Less({axis}_d, one)
   {axis}_is_away = Less({axis}_d, deux)
   {axis}_outer = Where({axis}_is_away, {axis}_away, zero)
   {axis}_shares = Where({axis}_is_near, {axis}_near, {axis}_outer)
"""
"""Keys' cubic with a = -0.5, which is Pillow's."""

NUMBERS = """int64[2] sides = {{{side}, {side}}}, int64[2] kept = {{{height}, {width}}}, int64 two = {{2}},
 double side = {{{side}}}, double zero = {{0}}, double one = {{1}}, double half = {{0.5}}, double deux = {{2}},
 double three_halves = {{1.5}}, double five_halves = {{2.5}}, double four = {{4}}, double five = {{5}},
 double eight = {{8}}, int64 of_height = {{0}}, int64 of_width = {{1}}, int64[1] first_axis = {{0}},
 int64[1] last_axis = {{1}}, float rounding = {{0.5}}, float darkest = {{0}}, float brightest = {{255}}"""


def with_resize(model: "ModelProto", side: int, fit: str, resample: str, kept: tuple[int, int]) -> "ModelProto":
    """The model of squares float [N, 3, side, side], 0..255, with the resize before it: images uint8 [N, 3, H, W].

    fit, resample: those of `data.images.Square`. As Pillow does it, with antialiasing and rounded to whole levels after
    each of the two passes; within one level of it, but for pictures that shrink more than six times, which Pillow is
    told to shrink by box averaging first. Images of exactly the size `kept` (height, width), if that is not the
    square's, are resized without rounding, as `evaluation_transform` does it.
    """
    from onnx import compose, helper, parser

    version = next(entry.version for entry in model.opset_import if not entry.domain)
    numbers = NUMBERS.format(side=side, height=kept[0], width=kept[1])
    text = f"""<ir_version: {model.ir_version}, opset_import: ["" : {version}]>
prepare (uint8[N, 3, height, width] images) => (float[N, 3, {side}, {side}] squares)
<{numbers}>
{{
{body(side, fit, resample, kept)}
}}"""
    front = parser.parse_model(text)
    inner = {"sides"} if fit == "squash" else set()  # what the branches of If use does not count as their inputs
    used = {name for node in front.graph.node for name in node.input} | inner
    for tensor in [tensor for tensor in front.graph.initializer if tensor.name not in used]:
        front.graph.initializer.remove(tensor)
    whole = compose.merge_models(front, model, [("squares", "squares")])
    domains = {entry.domain: entry.version for entry in whole.opset_import}  # merging names each as often as it was
    del whole.opset_import[:]
    whole.opset_import.extend(helper.make_opsetid(domain, number) for domain, number in domains.items())
    return whole


def body(side: int, fit: str, resample: str, kept: tuple[int, int]) -> str:
    """The nodes from `images` to `squares`."""
    if fit == "crop":  # Pillow's box lets pixels beyond it count at its edges, so it is more than a cut and a resize
        kernel = {"bilinear": TRIANGLE, "bicubic": KEYS}[resample]
        height, width = (
            TAPS.format(axis=axis, place=f"of_{axis}", filter=kernel.format(axis=axis)) for axis in ("height", "width")
        )
        return CROP.format(taps_of_height=height, taps_of_width=width)
    mode = {"bilinear": "linear", "bicubic": "cubic"}[resample]
    cubic = ", cubic_coeff_a = -0.5" if resample == "bicubic" else ""
    if kept == (side, side):
        return WHOLE.format(mode=mode, cubic=cubic, output="squares")
    return WHOLE.format(mode=mode, cubic=cubic, output="picture_squares") + KEPT.format(side=side)
