"""DreamerV2 against files of the formats agent_*.npz and primitives.npz."""

import math

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
    v2,
)
from dreamer_tf.configs.fields import leaves, updated
from dreamer_tf.configs.v2 import Kl, RewardNorm, Rssm
from tests.parity.common import Rows, below, built, load_weights

# What the official config can say, and we fix.
FIXED = {
    "rssm.ensemble": 1,
    "model_opt.opt": "adam",
    "actor_opt.opt": "adam",
    "critic_opt.opt": "adam",
    "reward_head.dist": "mse",
    "discount_head.dist": "binary",
    "critic.dist": "mse",
    "precision": 32,
    "replay.ongoing": False,
    "expl_behavior": "greedy",
    "expl_until": 0,
}
# Read nowhere in the official code, or (the first two) only by Gaussian latents.
DEAD = {"rssm.std_act", "rssm.min_std", "slow_baseline", "seed"}
# About the run, not the algorithm; intrinsic rewards are unused by "greedy".
RUN = {"logdir", "task", "envs", "envs_parallel", "render_size", "dmc_camera"}
RUN |= {"atari_grayscale", "time_limit", "action_repeat", "steps", "log_every"}
RUN |= {"eval_every", "eval_eps", "log_keys_video", "log_keys_sum", "jit"}
RUN |= {"log_keys_mean", "log_keys_max"}


def compare(data, config, run):
    """Rows of one file."""
    kind = primitives if config["fixture"].startswith("prim") else agent
    return kind(data, config, run)


def make_config(recorded: dict) -> v2.Config:
    """Our config from an official one."""
    known = {name: value for name, _, value in leaves(v2.Config())}
    changes = {}
    for name, value in _leaves(recorded):
        if name in known and name not in FIXED:
            if isinstance(value, str) and isinstance(known[name], float):
                value = float(value)
            if value is None:  # "no clipping", "no decay"
                value = 0
            changes[name] = tuple(value) if isinstance(value, list) else value
        elif name.startswith("loss_scales."):  # of any entry
            changes[name] = value
        elif name in DEAD | RUN or name.startswith(("expl_", "disag_")):
            pass
        elif name not in FIXED or value != FIXED[name]:
            raise AssertionError(f"{name}={value} is not supported")
    return updated(v2.Config(), changes | {"precision": "float32"})


def _leaves(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# -------------------------------------------------------------------- agents --


def agent(data, config, run):
    rows = Rows()
    made, batch, carry = prepare(data, config)
    still(rows, data, made, batch, carry, run)
    acting(rows, data, made, batch)
    steps(rows, data, config, made, batch, carry, run)
    return rows


def prepare(data, config):
    """Our agent with the recorded weights, the batch, and the start state, if any."""
    made = make_agent(config)
    weights = start_weights(data, made)
    load_weights({k: v for k, v in made.variables.items() if k in weights}, weights)
    carry = {k: v for k, v in below(data, "state0/").items() if k != "logit"}
    return made, below(data, "data/"), carry


def start_weights(data, made):
    weights = below(data, "w0/")
    if not made.config.slow_target:
        weights = {k: v for k, v in weights.items() if "target_critic" not in k}
    return weights


def still(rows, data, made, batch, carry, run):
    """Losses, gradients and what lies between, without a step."""

    def probe(noise, batch, carry):
        start, rows = made.start_and_rows(batch, carry or None)
        total, model, grads = made.model_gradients(noise, rows, start)
        losses, seen, more = made.behaviour_gradients(noise, rows, model.belief)
        metrics = v2.summary(made, {"model": total} | losses, model, *seen)
        for each in more:
            grads |= each
        return metrics, grads, named(made, batch, model, *seen)

    state = list(made.variables.values())
    probe = engine.compile(probe, made.draw, read=state, jit=run.jit)
    metrics, grads, found = engine.to_host(probe(engine.seed(0), batch, carry))
    initial(rows, data, metrics, made.config, grads)
    rows.group = "gradients"
    for name, theirs in below(data, "grad0/").items():
        rows.relative(name, grads[name], theirs, 3e-4)
    rows.group = "forward"
    for name, theirs in below(data, "mid/").items():
        rows.relative(name, found[name], theirs, 5e-5)


def named(made, batch, model, dream, b, value):
    """What led to the losses, by the names of the recorded quantities."""
    belief, feat = model.belief, made.cell.feat(model.belief)
    prior = model.prior
    stoch, deter = ops.split(b.feat, [made.cell.flat], -1)
    stoch = ops.reshape(stoch, (*stoch.shape[:-1], *belief.stoch.shape[2:]))
    c = made.config
    found = {
        "post_deter": belief.deter,
        "post_stoch": belief.stoch,
        "post_logit": belief.dist.logits,
        "embed": made.tokens(batch),
        "feat": feat,
        "prior_logit": prior.logits,
        "prior_stoch": prior.sample(),
        "prior_deter": belief.deter,
        "kl": model.kl,
        "target_reward": v2.clip_reward(batch["reward"], c.clip_rewards),
        "target_discount": c.discount * (1 - ops.cast(batch["is_terminal"], "float32")),
        "img_deter": deter,
        "img_stoch_index": ops.argmax(stoch, -1),
        "img_action": ops.pad(dream.action, ((1, 0), (0, 0), (0, 0))),
        "img_reward": b.normed,
        "img_discount": b.discount,
        "img_weight": b.weight,
        "img_value_slow": b.value,
        "img_target": b.ret,
        "policy_entropy": b.entropy,
        "policy_logprob": b.policy.log_prob(b.action),
        "reward_pred": made.reward(feat).mean,
    }
    if c.pred_discount:
        found["discount_pred"] = made.continues(feat).mean
    found |= likes(made, batch, feat)
    for key, dist in made.decoder(feat).items():
        found |= {f"recon_{key}": dist.mean, f"recon_{key}_b0t0": dist.mean[0, 0]}
    return found


def make_agent(config):
    """Our agent with a file's sizes, flags and noise rule."""
    entries = {
        k: spaces.Box(0, 255, shape, np.uint8)
        if len(shape) == 3
        else spaces.Box(-np.inf, np.inf, shape, np.float32)
        for k, shape in config["obs"].items()
    }
    count = config["action_dim"]
    action_space: spaces.Space = spaces.Box(-1, 1, (count,), np.float32)
    if config["discrete_actions"]:
        action_space = spaces.Discrete(count)
    ours = make_config(config["config"])
    space = spaces.Dict(entries, sort_keys=False)
    made = v2.DreamerV2(space, action_space, ours, seed=0)
    kinds = {"onehot": "OneHot", "trunc_normal": "TruncNormal"}
    kinds |= {"tanh_normal": "TanhNormal"}
    assert (made.action_kind.__name__, made.actor_grad) == (
        kinds[config["resolved"]["actor_dist"]],
        config["resolved"]["actor_grad"],
    )
    quantile = config.get("action_quantile")

    def noise(*shape):
        """Latents and discrete actions are modes; continuous ones by the rule."""
        if made.discrete or quantile is None:
            return {}
        return {"action": ops.full((*shape, count), quantile, "float32")}

    starts = config["batch"] * config["length"]
    made.draw = lambda seed, batch, carry=None: noise(ours.imag_horizon, starts)
    made.draw_policy = lambda seed, obs, state: noise(obs["is_first"].shape[0])
    made._compile()  # with these
    return made


def initial(rows, data, ours, config, grads):
    rows.group = "initial"
    ours["actor_ent_scale"] = config.actor_ent
    ours["actor_grad_mix"] = config.actor_grad_mix
    for part, of in (("actor", "actor"), ("critic", "critic"), ("model", None)):
        chosen = [
            v
            for k, v in grads.items()
            if (k.split("/")[0] == of if of else k.split("/")[0] not in BEHAVIOUR)
        ]
        norm = np.sqrt(sum(np.sum(np.square(g.astype("f8"))) for g in chosen))
        ours[f"{part}_grad_norm"] = norm
    for name, theirs in below(data, "init/").items():
        rows.relative(name, ours[name], theirs, 5e-5)


BEHAVIOUR = ("actor", "critic", "target_critic")


def likes(made, batch, feat):
    """Log-likelihoods of all predictions, `[B, T]`."""
    c, reward = made.config, v2.clip_reward(batch["reward"], made.config.clip_rewards)
    found = {k: d.log_prob(batch[k]) for k, d in made.decoder(feat).items()}
    found["reward"] = made.reward(feat).log_prob(reward)
    if c.pred_discount:
        goes_on = 1 - ops.cast(batch["is_terminal"], "float32")
        found["discount"] = made.continues(feat).log_prob(c.discount * goes_on)
    return {f"like_{k}": v for k, v in found.items()}


def acting(rows, data, made, batch):
    rows.group = "policy"
    seen = {k: batch[k] for k in (*made.shapes, "is_first")}
    size, length = batch["reward"].shape
    state, actions, deters = made.initial_state(size), [], []
    for t in range(length):
        obs = {k: v[:, t] for k, v in seen.items()}
        action, state = made.policy(obs, state, "train")
        actions.append(action)
        deters.append(state["deter"])
    ours = {"action": np.stack(actions, 1), "deter": np.stack(deters, 1)}
    for name, theirs in below(data, "policy/").items():
        rows.relative(name, ours[name], theirs, 5e-5)


def steps(rows, data, config, made, batch, carry, run):
    """Several whole updates, compared by their metrics and resulting weights."""

    def step(noise, batch, carry):
        seen = []

        def spy(*args):
            seen.append(type(made).model_gradients(made, *args))
            return seen[-1]

        made.model_gradients = spy
        metrics, _ = made.train_step(noise, batch, carry or None)
        belief = seen[0][1].belief
        return metrics, {"deter": belief.deter[:, -1], "stoch": belief.stoch[:, -1]}

    state = list(made.variables.values())
    step = engine.compile(step, made.draw, read=state, write=state, jit=run.jit)
    history: dict[str, list] = {}
    for i in range(config["num_updates"]):
        metrics, last = engine.to_host(step(engine.seed(0), batch, carry))
        now = made.state_dict()
        if i == 0:
            first = now
        if config["carry_state"]:
            carry = last
        pairs = zip(made.slow_critic.net.variables, made.critic.net.variables)
        equal = all(np.array_equal(now[a.path], now[b.path]) for a, b in pairs)
        metrics |= {
            "target_equals_critic": equal,
            "rewnorm_mag": now["reward_norm/mag"],
        }
        metrics["actor_ent_scale"] = made.config.actor_ent
        metrics["actor_grad_mix"] = made.config.actor_grad_mix
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
    rows.group = "updates"
    for name, theirs in below(data, "updates/").items():
        rows.relative(name, history[name], theirs, 5e-5)
    weights = start_weights(data, made)
    rows.group = "first weights"
    for name, theirs in below(data, "w1_norm/").items():
        if name in weights:
            rows.relative(name, np.linalg.norm(first[name]), theirs, 2e-5)
    for name, initial in weights.items():
        final = now[name].astype("f8")
        rows.group = "final norm"
        rows.relative(name, np.linalg.norm(final), data[f"w5_norm/{name}"], 2e-5)
        rows.group = "final delta"
        moved = np.linalg.norm(final - initial)
        rows.relative(name, moved, data[f"w5_delta/{name}"], 3e-4)
        rows.group = "final probe"
        probe = np.sum(final.ravel() * np.cos(np.arange(final.size)))
        error = abs(probe - data[f"w5_probe/{name}"]) / np.abs(final).sum()
        rows.relative(name, 1 + error, 1.0, 2e-5)


# ---------------------------------------------------------------- primitives --


def primitives(data, config, run):
    rows = Rows()
    get = lambda group: below(data, f"{group}/")
    scalars(rows, get, config, run)
    latents(rows, get, config, run)
    cells(rows, get, config, run)
    coders(rows, get, config, run)
    heads(rows, get, config, run)
    policies(rows, get, config, run)
    optimizer(rows, get, config, run)
    return rows


def scalars(rows, get, config, run):
    rows.group = "returns"
    d = get("lambda_return")
    following = np.concatenate([d["value"][1:], d["bootstrap"][None]])
    args = [_t(x) for x in (d["reward"], d["discount"], following)]
    ours = run(lambda: returns.lambda_return(*args, float(d["lambda"])))
    rows.relative("lambda_return", ours, d["returns"], 5e-5)
    for i, options in enumerate(config["streamnorm"]):
        d = get(f"streamnorm/{i}")
        norm = scales.RewardScale(RewardNorm(**options))
        ours = []
        for x in d["x"]:
            ours.append(run(lambda x=x, norm=norm: norm(_t(x)), [norm.mag]))
            norm.mag.assign(ours[-1][1])
        rows.relative(f"streamnorm {i} y", [y for y, _ in ours], d["y"], 5e-5)
        rows.relative(f"streamnorm {i} mag", [m for _, m in ours], d["mag"], 5e-5)


def latents(rows, get, config, run):
    rows.group = "latents"
    d = get("kl")
    post, prior = d["post_logit"], d["prior_logit"]
    for i, options in enumerate(config["kl"]):
        kl = kl_of_logits(Kl(**options))
        loss, value = run(lambda kl=kl: kl(_t(post), _t(prior)))
        rows.relative(f"kl {i} loss", loss, d[f"{i}/loss"], 5e-5)
        rows.relative(f"kl {i} value", value, d[f"{i}/value"], 5e-5)
        grads = run.grad(lambda q, p, kl=kl: kl(q, p)[0], post, prior)
        for name, grad in zip(("post", "prior"), grads):
            rows.relative(f"kl {i} gradient {name}", grad, d[f"{i}/grad_{name}"], 3e-4)
    entropy = run(lambda: distributions.OneHots(_t(post)).entropy())
    rows.relative("entropy", entropy, d["post_entropy"], 5e-5)
    d = get("straight_through")
    sample = lambda x: distributions.OneHot(x + 0).sample()
    rows.relative("sample", run(lambda: sample(_t(d["logit"]))), d["sample"], 1e-6)
    (grad,) = run.grad(lambda x: ops.sum(sample(x) * d["cotangent"]), d["logit"])
    rows.relative("straight-through gradient", grad, d["grad_logit"], 3e-4)


def kl_of_logits(config):
    """`v2.kl_loss` as a function of logits."""
    return lambda post, prior: v2.kl_loss(
        distributions.OneHots(post), distributions.OneHots(prior), config
    )


def cells(rows, get, config, run):
    rows.group = "cells"
    sizes = config["params"]
    d = get("gru")
    cell = nets.NormGRUCell(d["h"].shape[-1], name="cell")
    built(cell, below_dict(d, "w/"), d["x"].shape)
    ours = run(lambda: cell(_t(d["x"]), _t(d["h"])), cell.variables)
    rows.relative("gru", ours, d["h_next"], 5e-5)
    for norm in ("none", "layer"):
        d = get(f"rssm_{norm}")
        if not d:
            continue
        options = {k: sizes[k] for k in ("deter", "hidden")}
        options |= {"stoch": sizes["S"], "discrete": sizes["D"], "act": sizes["act"]}
        actions, tokens = d["action"].shape[-1], d["embed"].shape[-1]
        cell = v2.RSSM(Rssm(**options, norm=norm), actions, tokens, name="rssm")
        built(cell, below_dict(d, "w/"))

        def evaluate(d=d, cell=cell):
            state = rssm.State(*(_t(d[k]) for k in ("deter", "stoch")))
            img = rssm.advance(cell, state, _t(d["action"]))
            batch = {k: _t(d[k])[:, None] for k in ("embed", "action", "is_first")}
            belief, post = rssm.observe(cell, state, batch["embed"], batch)
            prior = cell.prior(post.deter)
            logits = belief.dist.logits[:, 0], prior.logits
            post_step = {f"post_{k}": v for k, v in post._asdict().items()}
            return {
                "img_step": img._asdict() | {"logit": cell.prior(img.deter).logits},
                "obs_step": post_step
                | {"post_logit": logits[0], "prior_logit": logits[1]}
                | {"prior_deter": post.deter, "prior_stoch": prior.sample()},
                "feat": cell.feat(post),
            }

        ours = run(evaluate, cell.variables)
        rows.relative(f"{norm} feat", ours.pop("feat"), d["feat"], 5e-5)
        for step, values in ours.items():
            for name, value in values.items():
                rows.relative(f"{norm} {step} {name}", value, d[f"{step}/{name}"], 5e-5)


def coders(rows, get, config, run):
    rows.group = "coders"
    sizes = config["params"]
    common = {"depth": sizes["depth"], "units": sizes["mlp"], "act": sizes["act"]}
    common |= {"cnn_act": sizes["act"]}
    for norm in ("none", "layer"):
        if d := get(f"cnn_{norm}"):
            images = {"image": d["image"].shape[2:]}
            coder(rows, f"cnn {norm}", d, images, {}, common | {"norm": norm}, run)
        if d := get(f"mlp_{norm}"):
            shapes = {k: v.shape[2:] for k, v in below_dict(d, "obs/").items()}
            vectors = {k: s for k, s in shapes.items() if len(s) == 1}
            coder(rows, f"mlp {norm}", d, {}, vectors, common | {"norm": norm}, run)


def coder(rows, name, d, images, vectors, options, run):
    weights = below_dict(d, "w/")
    part = lambda n: {k: v for k, v in weights.items() if k.startswith(n)}
    obs = {k: d[f"obs/{k}"] for k in vectors} | {k: d[k] for k in images}
    encoder = nets.StridedEncoder(images, vectors, **options, name="encoder")
    built(encoder, part("encoder/"))
    ours = run(lambda: encoder({k: _t(v) for k, v in obs.items()}), encoder.variables)
    rows.relative(f"{name} embed", ours, d["embed"], 5e-5)
    width = d["feat"].shape[-1]
    decoder = nets.StridedDecoder(images, vectors, width, **options, name="decoder")
    built(decoder, part("decoder/"))
    recon = run(lambda: decoder(_t(d["feat"])), decoder.variables)
    for key, value in recon.items():
        under = f"/{key}" if vectors else ""
        rows.relative(f"{name} recon {key}", value, d[f"recon{under}"], 5e-5)
        target = obs[key] if vectors else obs[key].astype("float32") / 255 - 0.5
        dist = lambda: distributions.UnitNormal(_t(value), value.ndim - 2)
        ours = run(lambda: dist().log_prob(_t(target)))
        rows.relative(f"{name} log_prob {key}", ours, d[f"log_prob{under}"], 5e-5)


def heads(rows, get, config, run):
    rows.group = "heads"
    feat = get("heads")["feat"]
    kinds = {
        "mse": lambda x: distributions.UnitNormal(x[..., 0]),
        "binary": lambda x: distributions.Bernoulli(x[..., 0]),
        "onehot": distributions.OneHot,
    }
    for name, kind in kinds.items():
        d = get(f"heads/{name}")
        weights = below_dict(d, "w/")
        depth = sum("/dense" in k for k in weights) // 2
        units, width = weights["head/out/out/kernel"].shape
        names = {"hidden": "dense{}", "group": "out", "name": "head"}
        head = nets.HeadNet(depth, units, {"out": width}, "elu", "none", **names)
        built(head, weights, feat.shape)

        def evaluate(kind=kind, d=d, head=head):
            dist = kind(head(_t(feat))["out"])
            ours = {"log_prob": dist.log_prob(_t(d["y"]))}
            if hasattr(dist, "logits"):
                ours |= {"logits": dist.logits, "entropy": dist.entropy()}
                ours["mode"] = dist.sample()
            else:
                ours |= {"mean": dist.mean, "mode": dist.mean}
            return ours

        ours = run(evaluate, head.variables)
        if name == "binary":
            ours["mode"] = ours["mean"] > 0.5
        if name == "onehot":
            # A softmax does not see a common shift of its logits.
            for x in (ours, d):
                x["logits"] = x["logits"] - x["logits"].mean(-1, keepdims=True)
        for key in ours.keys() & d.keys():
            rows.relative(f"{name} {key}", ours[key], d[key], 5e-5)


def policies(rows, get, config, run):
    rows.group = "policies"
    d = get("trunc_normal")
    raw = d["raw_mean"], d["raw_std"]
    bounds = float(d["min_std"]), float(d["init_std"])
    dist = lambda m, s: distributions.TruncNormal(m, s, *bounds)

    def evaluate():
        made = dist(*map(_t, raw))
        plain = made.dist.distribution
        return {
            "loc": made.mean,
            "scale": made.std,
            "mode": plain.mode(),
            "mean": plain.mean(),
            "stddev": plain.stddev(),
            "log_prob": made.log_prob(_t(d["y"])),
            "entropy": made.entropy(),
        }

    for name, value in run(evaluate).items():
        rows.relative(f"trunc_normal {name}", value, d[name], 5e-5)
    quantities = {
        "log_prob": lambda x: x.log_prob(_t(d["y"])),
        "entropy": lambda x: x.entropy(),
        # A draw without noise has the gradient of the mode, not the clip's.
        "mode": lambda x: x.sample(),
    }
    for name, fn in quantities.items():
        grads = run.grad(lambda m, s, fn=fn: ops.sum(fn(dist(m, s))), *raw)
        for part, grad in zip(("mean", "std"), grads):
            key = f"grad_{name}_raw_{part}"
            rows.relative(f"trunc_normal {key}", grad, d[key], 3e-4)
    sampler(rows, d, run)
    t = get("tanh_normal")
    bounds = float(t.get("min_std", bounds[0])), float(t.get("init_std", bounds[1]))

    def evaluate_tanh():
        made = distributions.TanhNormal(*map(_t, raw), *bounds)
        log_prob = made.log_prob(_t(t["y"]))
        return {"loc": made.mean, "scale": made.std, "log_prob": log_prob}

    for name, value in run(evaluate_tanh).items():
        rows.relative(f"tanh_normal {name}", value, t[name], 5e-5)


def sampler(rows, d, run):
    """Draws of the official sampler, as what our uniform noise would have to be."""
    loc, scale = d["loc"].astype("f8"), d["scale"].astype("f8")
    sample = d["real_sample"].astype("f8")
    # Raw outputs that give these parameters.
    raw = np.arctanh(loc), 2 * np.log(1 / (2 / (scale - float(d["min_std"])) - 1))
    cdf = np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))
    low, high = cdf((-1 - loc) / scale), cdf((1 - loc) / scale)
    noise = ((cdf((sample - loc) / scale) - low) / (high - low)).astype("float32")
    make = lambda m, s: distributions.TruncNormal(m, s, float(d["min_std"]))
    ours = run(lambda: make(*map(_t, raw)).sample(_t(noise)))
    rows.relative("trunc_normal sample", ours, np.clip(sample, -1, 1), 5e-5)
    grads = run.grad(
        lambda m, s: ops.sum(make(m, s).sample(_t(noise)) * _t(d["real_cotangent"])),
        *raw,
    )
    # From the raw outputs to the parameters.
    slopes = 1 - loc**2, (z := (scale - float(d["min_std"])) / 2) * (1 - z)
    for name, grad, slope in zip(("loc", "scale"), grads, slopes):
        key = f"real_grad_{name}"
        rows.relative(f"trunc_normal {key}", grad / slope, d[key], 3e-4)

    def clipped():
        made = make(_t(d["clip_in"]), _t(d["clip_in"]))
        made.mean = _t(d["clip_in"])
        return made.sample()

    rows.relative("trunc_normal clip", run(clipped), d["clip_out"], 1e-7)


def optimizer(rows, get, config, run):
    rows.group = "optimizer"
    for i, options in enumerate(config["opt"]):
        d = get(f"opt/{i}")
        params = {
            k: keras.Variable(d[f"{k}_0"], dtype="float32") for k in ("kernel", "bias")
        }
        options = {k: v or 0.0 for k, v in options.items()}
        adam = optimizers.Adam("opt", params, **options)
        for t, norm in enumerate(d["grad_norm"]):
            grads = {k: _t(d[f"grad_{k}_{t}"]) for k in params}
            ours = engine.to_host(adam.apply(grads))
            rows.relative(f"{i} norm {t}", ours, norm, 5e-5)
            for k, theta in params.items():
                theirs = d[f"{k}_{t + 1}"]
                rows.relative(f"{i} {k} {t}", np.asarray(theta), theirs, 2e-5)


def below_dict(d, prefix):
    return {k[len(prefix) :]: v for k, v in d.items() if k.startswith(prefix)}


def _t(x):
    """A tensor: uint8 and bool stay, all else float32."""
    x = np.asarray(x)
    keep = x.dtype in (np.uint8, np.bool_)
    return ops.convert_to_tensor(x if keep else x.astype("float32"))
