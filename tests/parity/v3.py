"""DreamerV3 against files of the formats agent_*.npz and primitives.npz."""

import dataclasses

import keras
import numpy as np
from gymnasium import spaces
from keras import ops

from dreamer_tf import (
    distributions,
    engine,
    nets,
    optimizers,
    returns,
    rssm,
    scales,
    v3,
)
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.v3 import Dyn, Opt, RetNorm
from tests.parity.common import Rows, below, built, load_weights

# What the official config can say, and we fix because the papers do.
FIXED = {
    "act": "silu",
    "norm": "rms",
    "winit": "trunc_normal_in",
    "outer": False,
    "strided": False,
    "absolute": False,
    "ac_grads": False,
    "momentum": True,
    "schedule": "const",
    "anneal": 0,
    "impl": "perc",
    "policy_dist_cont": "bounded_normal",
    "policy_dist_disc": "categorical",
}
# Read nowhere in the official code (or, `output`, implied by the head).
DEAD = {"repl_loss.slowtar", "policy.unimix", "rewhead.output", "conhead.output"}
DEAD |= {"value.output"}


def compare(data, config, run):
    """Rows of one file."""
    return (agent if config["kind"] == "agent" else primitives)(data, config, run)


def make_config(recorded: dict) -> v3.Config:
    """Our config from an official one."""
    known = {name for name, _ in _leaves(dataclasses.asdict(v3.Config()))}
    changes = {}
    for name, value in _leaves(recorded):
        if name in known or name.startswith("loss_scales."):
            changes[name] = tuple(value) if isinstance(value, list) else value
        elif name not in DEAD and value != FIXED.get(name.split(".")[-1]):
            raise AssertionError(f"{name}={value} is not supported")
    return updated(v3.Config(), changes | {"precision": "float32"})


def _leaves(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# -------------------------------------------------------------------- agents --


def agent(data, config, run):
    rows = Rows()
    made = make_agent(data, config)
    batch, carry = make_batch(data, config)
    weights = below(data, "w/")
    names = {k: v for k, v in made.variables.items() if k in weights}
    load_weights(names, weights)
    for name, value in zip(("lo", "hi"), data["retnorm0"]):
        made.retnorm.variables[name].assign(value)

    def step(noise, batch, carry):
        start, rows = made.start_and_rows(batch, carry)
        total, seen, grads = made.gradients(noise, rows, start)
        metrics, feedback = made.apply(total, seen, grads)
        return named(made, rows, *seen), grads, metrics, feedback

    state = list(made.variables.values())
    step = engine.compile(step, made.draw, read=state, write=state, jit=run.jit)
    trajectory: dict[str, list] = {}
    for i in range(6):
        result = engine.to_host(step(engine.seed(0), batch, carry))
        for key, value in result[2].items():
            trajectory.setdefault(key, []).append(value)
        if i == 0:
            out, grads, _, feedback = result
        if i == 4:
            final = made.state_dict()
    intermediates(rows, data, config, out, batch)
    rows.group = "write-back"
    for key, value in below(data, "dbg/writeback/").items():
        rows.relative(key, feedback[key], value, 2e-5)
    losses(rows, data, out, trajectory)
    gradients(rows, data, config, grads)
    finals(rows, data, config, final, weights)
    return rows


def named(made, rows, losses, model, dream, b, replayed):
    """What led to the losses, by the names of the recorded quantities."""
    policy = {"logits": b.policy.logits} if made.discrete else {}
    policy |= {} if made.discrete else {"mean": b.policy.mean, "std": b.policy.std}
    belief = {"deter": model.belief.deter, "stoch": model.belief.stoch}
    return {
        "losses": losses,
        "post": belief | {"logit": model.belief.dist.raw[0]},
        "model": {"tokens": made.tokens(rows), "prior_logit": model.prior.raw[0]},
        "imag": {
            "feat": dream.feat.x,
            "action": dream.action,
            "policy": policy,
            "rew": b.reward,
            "con": b.goes_on,
            "val": b.value,
            "slowval": b.slow,
            "ret": b.ret,
        },
        "repl": replayed,
    }


def make_agent(data, config):
    """Our agent with a file's sizes, flags and noise rule."""
    entries = {
        k: spaces.Box(0, 255, shape, np.uint8)
        if dtype == "uint8"
        else spaces.Box(-np.inf, np.inf, shape, np.float32)
        for k, (dtype, shape) in config["obs"].items()
    }
    classes = discrete_classes(data)
    action_space: spaces.Space = spaces.Discrete(max(classes, 1))
    if not classes:
        width = data["w/pol/head/action/mean/kernel"].shape[-1]
        action_space = spaces.Box(-1, 1, (width,), np.float32)
    size = {"batch_size": config["B"], "batch_length": config["T"]}
    ours = updated(
        make_config(config["agent"]),
        size | {"replay_context": config["replay_context"]},
    )
    made = v3.DreamerV3(spaces.Dict(entries), action_space, ours, seed=0)

    def draw(seed, batch, carry=None):
        """Latents and discrete actions are modes; continuous ones by the rule."""
        if made.discrete or config["action_rule"] == "mode":
            return {}
        starts = config["B"] * (ours.imag_last or config["T"])
        shape = (ours.imag_length + 1, starts, made.actions)
        eps = ops.convert_to_tensor(config["eps"], "float32")
        return {"action": ops.broadcast_to(eps, shape)}

    made.draw = draw
    return made


def discrete_classes(data) -> int:
    """Number of discrete actions by the actor's weights; 0 if they are continuous."""
    name = "w/pol/head/action/logits/kernel"
    return data[name].shape[-1] if name in data.files else 0


def make_batch(data, config):
    """The file's batch in our convention: the action that led to the row."""
    batch = {}
    for key, value in below(data, "batch/").items():
        batch[key.removeprefix("dyn/")] = value
    action, previous = batch["action"], data["carry/action"][:, None]
    classes = discrete_classes(data)
    if classes and action.ndim == 2:
        action, previous = np.eye(classes)[action], np.eye(classes)[previous]
    batch["action"] = np.concatenate([previous, action[:, :-1]], 1).astype("float32")
    if config["replay_context"]:
        return batch, None
    return batch, {k: data[f"carry/{k}"] for k in ("deter", "stoch")}


def intermediates(rows, data, config, out, batch):
    rows.group = "forward"
    start = config["replay_context"]
    out = out | {k: batch_first(out[k]) for k in ("imag", "repl")}
    deter, stoch = out["post"]["deter"].shape[-1], out["post"]["stoch"].shape[-2:]
    feat = out["imag"].pop("feat")[:, 1:]
    ours = {
        "tokens": out["model"]["tokens"],
        "prior/logit": out["model"]["prior_logit"],
        "imag/deter": feat[..., :deter],
        "imag/stoch": feat[..., deter:].reshape(*feat.shape[:2], *stoch),
        "imag/act/action": out["imag"]["action"],
        "prevact/action": batch["action"][:, start:],
    }
    ours |= {f"post/{k}": v for k, v in out["post"].items()}
    ours |= {f"imag/pol/action/{k}": v for k, v in out["imag"]["policy"].items()}
    ours |= {f"imag/{k}": v for k, v in out["imag"].items() if not isinstance(v, dict)}
    ours |= {f"repl/{k}": v for k, v in out["repl"].items()}
    keep = 1 - data["batch/is_first"][:, start : start + config["T"]]
    for key, theirs in below(data, "dbg/").items():
        if key.startswith(("loss/", "writeback/")):
            continue
        value = ours[key]
        if key.endswith(("act/action", "prevact/action")) and theirs.ndim < value.ndim:
            value = value.argmax(-1)
        if key == "prevact/action":
            # Where an episode begins it is not used.
            value, theirs = ((x.T * keep.T).T for x in (value, theirs))
        if key == "imag/pol/action/logits":
            # A softmax does not see a common shift of its logits.
            value, theirs = (x - x.mean(-1, keepdims=True) for x in (value, theirs))
        rows.relative(key, value, theirs, 2e-5)


def batch_first(tree):
    return keras.tree.map_structure(lambda x: np.swapaxes(x, 0, 1), tree)


def losses(rows, data, out, trajectory):
    rows.group = "losses"
    for name, theirs in below(data, "dbg/loss/").items():
        ours = out["losses"][name]
        rows.elements(f"{name} per element", ours, theirs, 2e-5, 2e-6)
    recorded = below(data, "traj/")
    for group, index in (("first step", slice(0, 1)), ("updates", slice(1, 6))):
        rows.group = group
        for name, theirs in recorded.items():
            ours = np.asarray(trajectory[name])[index]
            # Means of signed values close to 0, and extremes of few: the
            # rounding of the summands does not shrink with them.
            signed = name in ("loss/policy", "adv")
            tolerance = (1e-5 if group == "first step" else 2e-5) * (1 + 4 * signed)
            if name in ("update_rms", "grad_norm", "grad_rms"):
                tolerance = 5e-5
            rows.relative(name, ours, theirs[index], tolerance, 2e-7)


def exact_zero(config, name):
    """Tensors whose gradient is 0 by the noise rule, see golden/v3.md section 1."""
    mean = name.startswith("pol/head/action/mean/")
    return mean and config["action_rule"] == "mode"


def gradients(rows, data, config, grads):
    rows.group = "gradients"
    for name, theirs in below(data, "grad0/").items():
        if exact_zero(config, name):
            rows.norm(name, grads[name], theirs, 1e-4, 1e-6)
        else:
            rows.norm(name, grads[name], theirs, 1e-4, 1e-7)


def finals(rows, data, config, final, weights):
    for name, theirs in below(data, "final/w/").items():
        rows.group = "final weights"
        if not exact_zero(config, name):
            rows.norm(name, final[name], theirs, 2e-5, 0.0)
    for i, name in enumerate(config["weight_names"]):
        if exact_zero(config, name):
            continue
        rows.group = "final l2"
        rows.relative(name, np.linalg.norm(final[name]), data["final/l2"][i], 5e-5)
        rows.group = "final delta"
        moved = np.linalg.norm(final[name].astype("f8") - weights[name])
        # With the default optimizer five updates move weights by a few ulps.
        ulps = 2e-7 * np.linalg.norm(weights[name])
        rows.relative(name, moved, data["final/delta_l2"][i], 3e-4, ulps)


# ---------------------------------------------------------------- primitives --


def primitives(data, config, run):
    rows = Rows()
    get = lambda group: below(data, f"{group}/")
    scalars(rows, get, config, run)
    latents(rows, get, config, run)
    policies(rows, get, config, run)
    networks(rows, get, config, run)
    learning(rows, get, config, run)
    return rows


def scalars(rows, get, config, run):
    rows.group = "scalars"
    for name, fn in (("symlog", returns.symlog), ("symexp", returns.symexp)):
        d = get(name)
        rows.elements(name, run(lambda fn=fn, d=d: fn(_t(d["x"]))), d["y"], 1e-5, 1e-12)
    for n in config["bins"]:
        d = get(f"twohot{n}")
        bins = run(lambda n=n: returns.twohot_bins(n))
        rows.elements(f"twohot{n} bins", bins, d["bins"], 1e-5, 1e-12)
        code = run(lambda d=d, n=n: returns.twohot(_t(d["target"]), _t(d["bins"])))
        code = np.where(code < 1e-7, 0, code)
        rows.relative(f"twohot{n} encoded", code, d["encoded"], 1e-5)
        loss = lambda x, d=d: -distributions.TwoHot(x).log_prob(_t(d["target"]))
        rows.relative(
            f"twohot{n} loss", run(lambda: loss(_t(d["logits"]))), d["loss"], 1e-5
        )
        pred = run(lambda d=d: distributions.TwoHot(_t(d["logits"])).mean)
        probs = np.exp(d["logits"] - d["logits"].max(-1, keepdims=True))
        probs /= probs.sum(-1, keepdims=True)
        scale = np.abs(probs * d["bins"]).max(-1)
        rows.relative(
            f"twohot{n} pred", (pred - d["pred"]) / scale + 1, 1 + 0 * scale, 1e-4
        )
        (grad,) = run.grad(lambda x: ops.sum(loss(x)), d["logits"])
        rows.relative(f"twohot{n} gradient", grad, d["dloss_dlogits"], 1e-5)
    d = get("binary")
    binary = lambda: distributions.Bernoulli(_t(d["logit"]))
    rows.relative(
        "binary loss", run(lambda: -binary().log_prob(_t(d["target"]))), d["loss"], 1e-5
    )
    rows.relative("binary mean", run(lambda: binary().mean), d["prob1"], 1e-5)
    d = get("symlog_mse")
    error = run(lambda: (_t(d["mean"]) - returns.symlog(_t(d["target"]))) ** 2)
    axes = tuple(range(d["loss"].ndim, error.ndim))
    rows.relative("symlog_mse", error.sum(axes), d["loss"], 1e-5)


def latents(rows, get, config, run):
    rows.group = "latents"
    for i in range(len(config["cat"])):
        d = get(f"onehot{i}")
        unimix, free = float(d["unimix"]), float(d["free"])
        dist = lambda x: distributions.OneHots(x, unimix)
        post, prior = d["post"], d["prior"]
        rows.relative(
            f"onehot{i} mixed",
            run(lambda: dist(_t(post)).logits),
            d["post_mixed"],
            1e-5,
        )
        rows.relative(
            f"onehot{i} entropy",
            run(lambda: dist(_t(post)).entropy()),
            d["entropy"],
            1e-5,
        )
        kl = lambda q, p: dist(q).kl(dist(p))
        rows.relative(
            f"onehot{i} kl", run(lambda: kl(_t(post), _t(prior))), d["kl"], 1e-5
        )
        rows.relative(
            f"onehot{i} mode", run(lambda: dist(_t(post)).sample()), d["mode"], 1e-6
        )
        (grad,) = run.grad(lambda x: ops.sum(dist(x).sample() * d["st_weight"]), post)
        rows.relative(f"onehot{i} straight-through", grad, d["st_grad"], 1e-5)
        dyn = lambda p: v3.kl_loss(dist(_t(post)), dist(p), free)
        rep = lambda q: v3.kl_loss(dist(q), dist(_t(prior)), free)
        rows.relative(f"onehot{i} dyn", run(lambda: dyn(_t(prior))), d["dyn"], 1e-5)
        rows.relative(f"onehot{i} rep", run(lambda: rep(_t(post))), d["rep"], 1e-5)
        (grad,) = run.grad(lambda p: ops.sum(dyn(p)), prior)
        rows.relative(f"onehot{i} dyn gradient", grad, d["ddyn_dprior"], 1e-5)
        (grad,) = run.grad(lambda q: ops.sum(rep(q)), post)
        rows.relative(f"onehot{i} rep gradient", grad, d["drep_dpost"], 1e-5)


def policies(rows, get, config, run):
    rows.group = "policies"
    d = get("bounded_normal")
    minstd, maxstd = float(d["minstd"]), float(d["maxstd"])
    x, w = d["x"], {k[2:]: v for k, v in d.items() if k.startswith("w/")}
    head = nets.HeadNet(
        0, 1, {"mean": config["adim"], "stddev": config["adim"]}, group="", name="head"
    )
    built(head, w, x.shape)

    def dist():
        out = head(_t(x))
        return distributions.BoundedNormal(out["mean"], out["stddev"], minstd, maxstd)

    for name, fn in {
        "mean": lambda: dist().mean,
        "std": lambda: dist().std,
        "mode": lambda: dist().sample(),
        "logp": lambda: dist().log_prob(_t(d["action"])),
        "entropy": lambda: dist().entropy(),
    }.items():
        rows.relative(f"bounded_normal {name}", run(fn, head.variables), d[name], 1e-5)
    for name in ("minent", "maxent"):
        value = np.full_like(d[name], getattr(dist(), name))
        rows.relative(f"bounded_normal {name}", value, d[name], 1e-5)
    d = get("categorical")
    x, w = d["x"], {k[2:]: v for k, v in d.items() if k.startswith("w/")}
    classes = w["head/logits/kernel"].shape[-1]
    head = nets.HeadNet(0, 1, {"logits": classes}, group="", name="head")
    built(head, w, x.shape)
    dist = lambda: distributions.OneHot(head(_t(x))["logits"])
    chosen = np.eye(classes, dtype="float32")[d["action"]]
    centred = lambda v: v - v.mean(-1, keepdims=True)
    logits = run(lambda: dist().logits, head.variables)
    rows.relative("categorical logits", centred(logits), centred(d["logits"]), 1e-5)
    rows.relative(
        "categorical logp",
        run(lambda: dist().log_prob(_t(chosen)), head.variables),
        d["logp"],
        1e-5,
    )
    rows.relative(
        "categorical entropy",
        run(lambda: dist().entropy(), head.variables),
        d["entropy"],
        1e-5,
    )
    mode = run(lambda: dist().sample(), head.variables).argmax(-1)
    theirs = d["mode"] if d["mode"].ndim == mode.ndim else d["mode"].argmax(-1)
    rows.relative("categorical mode", mode, theirs, 0)


def networks(rows, get, config, run):
    rows.group = "networks"
    d = get("rmsnorm")
    norm = built(nets.rms_norm("n"), {"n/scale": d["scale"]}, d["x"].shape)
    rows.relative(
        "rmsnorm", run(lambda: norm(_t(d["x"])), norm.variables), d["y"], 1e-5
    )
    weights = np.arange(d["x"].shape[-1], dtype="float32")
    (grad,) = run.grad(
        lambda x: ops.sum(norm(x) ** 2 * weights), d["x"], variables=norm.variables
    )
    rows.relative("rmsnorm gradient", grad, d["dx"], 1e-5)
    rssm_steps(rows, get("rssm"), config, run)

    d = get("vec")
    obs = {k[4:]: v for k, v in d.items() if k.startswith("obs/")}
    lead = d["deter"].ndim - 1
    shapes = {k: v.shape[lead:] for k, v in obs.items()}
    coders(rows, "vec", d, obs, shapes, config["encvec"], config["decvec"], run)
    d = get("img")
    shapes = {"image": d["image"].shape[-3:]}
    coders(
        rows,
        "img",
        d,
        {"image": d["image"]},
        shapes,
        config["encimg"],
        config["decimg"],
        run,
    )

    d = get("mlphead")
    w = {k[2:]: v for k, v in d.items() if k.startswith("w/")}
    depth = sum(k.startswith("val/mlp/linear") for k in w) // 2
    units, bins = w["val/head/logits/kernel"].shape
    head = nets.HeadNet(depth, units, {"logits": bins}, name="val")
    built(head, w, d["x"].shape)
    rows.relative(
        "mlphead",
        run(lambda: head(_t(d["x"]))["logits"], head.variables),
        d["logits"],
        1e-5,
    )


def rssm_steps(rows, d, config, run):
    w = {k[2:]: v for k, v in d.items() if k.startswith("w/")}
    count = lambda prefix: sum(f"dyn/{prefix}{i}/kernel" in w for i in range(9))
    sizes = {
        k: config["rssm"][k] for k in ("deter", "hidden", "stoch", "classes", "blocks")
    }
    dyn = Dyn(
        **sizes,
        imglayers=count("prior"),
        obslayers=count("obs"),
        dynlayers=count("dynhid"),
    )
    cell = v3.RSSM(dyn, d["action"].shape[-1], d["tokens"].shape[-1], name="dyn")
    built(cell, w)
    state = rssm.State(*(d[k] for k in ("deter", "stoch")))
    core = lambda *x: cell.core(*x).whole
    inputs = [d[k] for k in ("deter", "stoch", "action")]
    rows.relative(
        "rssm core",
        run(lambda: core(*map(_t, inputs)), cell.variables),
        d["core"],
        1e-5,
    )
    weights = np.arange(1, dyn.deter + 1, dtype="float32")
    grads = run.grad(
        lambda *x: ops.sum(core(*x) * weights), *inputs, variables=cell.variables
    )
    for name, grad in zip(("deter", "stoch", "action"), grads):
        rows.relative(f"rssm gradient {name}", grad, d[f"dcore_d{name}"], 1e-5)

    def observe():
        batch = {"action": d["action"], "is_first": d["reset"], "tokens": d["tokens"]}
        batch = {k: _t(v)[:, None] for k, v in batch.items()}
        start = keras.tree.map_structure(_t, state)
        post, last = rssm.observe(cell, start, batch["tokens"], batch)
        logits = post.dist.raw[0][:, 0], cell.prior(last.deter).raw[0]
        return last._asdict(), *logits

    post, logit, prior = run(observe, cell.variables)
    rows.relative("rssm observe deter", post["deter"], d["next_deter"], 1e-5)
    rows.relative("rssm observe logit", logit, d["post_logit"], 1e-5)
    rows.relative("rssm observe stoch", post["stoch"], d["post_stoch"], 1e-6)
    rows.relative("rssm prior logit", prior, d["prior_logit"], 1e-5)

    def imagine():
        start = keras.tree.map_structure(_t, state)
        out = rssm.predict(cell, start, _t(d["action"])[:, None])
        out = {k: v[:, 0] for k, v in out._asdict().items()}
        return out, cell.prior(out["deter"]).raw[0]

    out, logit = run(imagine, cell.variables)
    rows.relative("rssm imagine deter", out["deter"], d["img_deter"], 1e-5)
    rows.relative("rssm imagine stoch", out["stoch"], d["img_stoch"], 1e-6)
    rows.relative("rssm imagine logit", logit, d["img_logit"], 1e-5)


def coders(rows, name, d, obs, shapes, enc, dec, run):
    w = {k[2:]: v for k, v in d.items() if k.startswith("w/")}
    part = lambda n: {k: v for k, v in w.items() if k.startswith(f"{n}/")}
    common = ("depth", "mults", "kernel", "units")
    args = {k: enc[k] for k in (*common, "symlog") if k in enc}
    encoder = nets.Encoder(shapes, layers=enc.get("layers", 0), name="enc", **args)
    built(encoder, part("enc"))
    tokens = run(lambda: encoder({k: _t(v) for k, v in obs.items()}), encoder.variables)
    rows.relative(f"{name} tokens", tokens, d["tokens"], 1e-5)
    args = {k: dec[k] for k in (*common, "bspace", "outscale") if k in dec}
    deter, stoch = d["deter"], d["stoch"]
    decoder = nets.Decoder(
        shapes,
        deter.shape[-1],
        *stoch.shape[-2:],
        layers=dec.get("layers", 0),
        name="dec",
        **args,
    )
    built(decoder, part("dec"))
    pred = run(lambda: decoder(_t(deter), _t(stoch)), decoder.variables)
    for key, value in pred.items():
        image = len(shapes[key]) == 3
        theirs, loss = (
            (d["pred"], d["loss"]) if image else (d[f"pred/{key}"], d[f"loss/{key}"])
        )
        rows.relative(f"{name} prediction {key}", value, theirs, 1e-5)
        squash = np.sign(obs[key]) * np.log1p(np.abs(obs[key].astype("f8")))
        error = (value - (obs[key] / 255 if image else squash)) ** 2
        error = error.sum(tuple(range(deter.ndim - 1, error.ndim)))
        rows.relative(f"{name} loss {key}", error, loss, 1e-5)


def learning(rows, get, config, run):
    rows.group = "returns"
    d = get("lambda")
    last, term, rew, boot = (
        d[k].astype("float32").T[1:] for k in ("last", "term", "rew", "boot")
    )
    disc, lam = float(d["disc"]), float(d["lam"])
    args = rew, (1 - term) * disc, boot, (1 - last) * lam
    ret = run(lambda: returns.lambda_return(*map(_t, args)))
    rows.relative("lambda", ret.T, d["ret"], 1e-5)
    con = d["con"].T[1:]
    args = rew, con, boot, np.full_like(con, lam)
    ret = run(lambda: returns.lambda_return(*map(_t, args)))
    rows.relative("lambda imagined", ret.T, d["ret_imag"], 1e-5)
    rows.relative("weight", np.cumprod(d["con"], 1), d["weight_imag"], 1e-5)
    normaliser(rows, get, run)
    optimizer(rows, get, config, run)


def normaliser(rows, get, run):
    x = get("retnorm")["x"]
    rate, limit = float(get("retnorm")["rate"]), float(get("retnorm")["limit"])
    for i, debias in enumerate((False, True)):
        d = get(f"retnorm{i}")
        norm = scales.ReturnNorm(RetNorm(rate=rate, limit=limit, debias=debias))
        seen = []
        for step in x:
            stats = run(lambda step=step: norm.stats(_t(step)), norm.variables.values())
            norm.assign(stats)
            seen.append(stats)
        for name in ("offset", "scale"):
            ours = [s[name] for s in seen]
            rows.relative(f"retnorm{i} {name}", ours, d[name], 1e-5)
        for name in ("lo", "hi"):
            rows.relative(
                f"retnorm{i} {name}", seen[-1][name], d[f"state_{name}"], 1e-5
            )


def optimizer(rows, get, config, run):
    rows.group = "optimizer"
    d = get("opt")
    start = {k[6:]: v for k, v in d.items() if k.startswith("param/")}
    fields = {f.name for f in dataclasses.fields(Opt)}
    for i, options in enumerate(config["opts"]):
        recorded = get(f"opt{i}")
        opt_config = Opt(**{k: v for k, v in options.items() if k in fields})
        params = {k: keras.Variable(v, dtype="float32") for k, v in start.items()}
        opt = optimizers.LaProp(params, opt_config)
        for t in range(4):
            grads = {k: d[f"grad{t}/{k}"] for k in params}
            for k, theta in params.items():
                clipped = run(
                    lambda k=k, theta=theta: optimizers.clip_by_agc(
                        _t(grads[k]), theta.value, opt_config.agc
                    ),
                    [theta],
                )
                rows.relative(
                    f"opt{i} clipped{t} {k}", clipped, recorded[f"clipped{t}/{k}"], 2e-5
                )
            updates = engine.to_host(opt.updates([_t(g) for g in grads.values()]))
            for (k, theta), update in zip(params.items(), updates):
                rows.relative(
                    f"opt{i} update{t} {k}", update, recorded[f"update{t}/{k}"], 5e-5
                )
                theta.assign(theta + update)
                rows.relative(
                    f"opt{i} param{t} {k}",
                    np.asarray(theta),
                    recorded[f"param{t}/{k}"],
                    2e-5,
                )


def _t(x):
    """A tensor: uint8 and bool stay, all else float32."""
    x = np.asarray(x)
    keep = x.dtype in (np.uint8, np.bool_)
    return ops.convert_to_tensor(x if keep else x.astype("float32"))
