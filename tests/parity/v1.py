"""DreamerV1 against files of the formats agent_*.npz and prims_*.npz."""

import types

import keras
import numpy as np
from gymnasium import spaces
from keras import ops

from dreamer_tf import (
    distributions,
    engine,
    nets,
    optimizers,
    replay,
    returns,
    rssm,
    v1,
)
from dreamer_tf.configs.fields import leaves, updated
from dreamer_tf.envs.base import ActionScale, Env, action_box, image_box
from dreamer_tf.nets import v1 as nets_v1
from tests.parity.common import Rows, below, built, load_weights

# About the file, or decided by it (`action_dist` by the action space). Weight decay
# has no effect in the official code and does not exist here.
OTHER = {"action_dim", "action_dist", "batch", "length", "name", "rule", "seed"}
OTHER |= {"updates", "weight_decay", "weight_decay_pattern", "precision"}


def compare(data, config, run):
    """Rows of one file."""
    return (primitives if "replay" in config else agent)(data, config, run)


def make_config(recorded: dict) -> v1.Config:
    """Our config from an official one."""
    known = {name for name, *_ in leaves(v1.Config())} - {"precision"}
    changes = {}
    for name, value in recorded.items():
        if name in known:
            changes[name] = 0 if value is None else value
        elif name == "loss_scales":  # our own extension
            changes |= {f"loss_scales.{k}": v for k, v in value.items()}
        elif name not in OTHER:
            raise AssertionError(f"{name}={value} is not supported")
    return updated(v1.Config(), changes | {"precision": "float32"})


# -------------------------------------------------------------------- agents --


def agent(data, config, run):
    rows = Rows()
    made = make_agent(data, config)
    weights = below(data, "weight/")
    load_weights({k: v for k, v in made.variables.items() if k in weights}, weights)
    batch = below(data, "batch/")
    discount = batch.pop("discount")
    # Sequences start with their true first action, whatever `is_first` says.
    batch |= {"is_terminal": 1 - discount, "is_first": np.ones(discount.shape, bool)}

    def step(noise, batch):
        """One update, and what was computed on the way."""
        seen = {}

        def spy(name):
            def wrapped(*args):
                seen[name] = getattr(type(made), name)(made, *args)
                if name == "model_gradients":  # before weights change
                    seen["first"] = first_tensors(made, batch, seen[name][1])
                return seen[name]

            setattr(made, name, wrapped)

        spy("model_gradients")
        spy("behaviour_gradients")
        metrics, _ = made.train_step(noise, batch)
        return metrics, named_tensors(**seen)

    state = list(made.variables.values())
    step = engine.compile(step, made.draw, read=state, write=state, jit=run.jit)
    history: dict[str, list] = {}
    for i in range(config["updates"] + 1):
        if i == config["updates"]:
            final = made.state_dict()
        metrics, seen = engine.to_host(step(engine.seed(0), batch))
        if i == 0:
            first = seen
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
    curves(rows, data, history)
    forward(rows, data, first)
    gradients(rows, data, first)
    finals(rows, data, final, weights)
    return rows


def make_agent(data, config):
    """Our agent with a file's sizes, flags and noise rule."""
    shape = data["batch/image"].shape[2:]
    count = config["action_dim"]
    action_space: spaces.Space = spaces.Box(-1, 1, (count,), np.float32)
    if config["action_dist"] == "onehot":
        action_space = spaces.Discrete(count)
    ours = make_config(config)
    obs_space = spaces.Dict({"image": image_box(*shape)})
    made = v1.DreamerV1(obs_space, action_space, ours, seed=0)
    latent, action = (_t(data[f"eps/{k}"]) for k in ("latent", "action"))

    def draw(seed, batch, carry=None):
        """The same noise everywhere."""
        size, length = batch["reward"].shape
        shape = (ours.horizon, size * (length - ours.pcont))
        noise = {
            "post": ops.broadcast_to(latent, (size, length, ours.stoch_size)),
            "latent": ops.broadcast_to(latent, (*shape, ours.stoch_size)),
        }
        if not made.discrete:
            noise["action"] = ops.broadcast_to(action, (*shape, count))
        return noise

    made.draw = draw
    return made


def first_tensors(made, batch, model):
    """What the world model has computed, by the names of the recorded quantities."""
    belief, feat = model.belief, made.cell.feat(model.belief)
    return outputs(made, feat) | {
        "embed": made.tokens(batch),
        "feat": feat,
        "prior_mean": model.prior.mean,
        "prior_std": model.prior.std,
        "kl": model.kl,
        "div": model.losses["kl"],
        "prior_ent": model.prior.entropy(),
        "post_ent": belief.dist.entropy(),
        "post_deter": belief.deter,
        "post_stoch": belief.stoch,
        "post_mean": belief.dist.mean,
        "post_std": belief.dist.std,
        "image_logprob": made.decoder(feat)["image"].log_prob(batch["image"]),
    }


def named_tensors(first, model_gradients, behaviour_gradients):
    """What was computed in an update, by the names of the recorded quantities."""
    _, _, grads = model_gradients
    _, (dream, b, _), more = behaviour_gradients
    for each in more:
        grads = grads | each
    imagined = {
        "feat": b.feat,
        "action": dream.action,
        "weight": b.weight,
        "reward": b.reward[:-1],
        "value": b.value[:-1],
        "pcont": b.discount[:-1],
        "bootstrap": b.value[-1],
        "return": b.ret,
    }
    return {"first": first, "imagined": imagined, "grads": grads}


def outputs(made, feat):
    """What decoder, heads and actor say of posterior features."""
    dist = made.actor(feat)
    out = {
        "image_mean_first": made.decoder(feat[:1, :1])["image"].mean[0, 0],
        "reward_mean": made.reward(feat).mean,
        "value_mean": made.critic(feat).mean,
    }
    if not made.discrete:
        out |= {"action_loc": dist.mean, "action_scale": dist.std}
    if made.config.pcont:
        out["pcont_mean"] = made.continues(feat).mean
    return out


def curves(rows, data, history):
    rows.group = "curves"
    ours = {k.removesuffix("_grad_norm") + "_norm": v for k, v in history.items()}
    ours |= {f"like_{k[:-5]}": -np.asarray(v) for k, v in history.items()}
    ours |= history | {"div_raw": history["kl"]}
    for name, theirs in below(data, "curve/").items():
        tolerance = 5e-5 if name.endswith("_norm") else 1e-5
        rows.relative(name, ours[name], theirs, tolerance)


def forward(rows, data, first):
    rows.group = "forward"
    for name, theirs in below(data, "first/").items():
        rows.relative(name, first["first"][name], theirs, 2e-5)
    rows.group = "imagination"
    for name, theirs in below(data, "imag/").items():
        rows.relative(name, first["imagined"][name], theirs, 2e-5)


def gradients(rows, data, first):
    rows.group = "gradients"
    for name, theirs in below(data, "gnorm/").items():
        rows.relative(name, np.linalg.norm(first["grads"][name]), theirs, 5e-5)


def finals(rows, data, final, weights):
    total = 0.0
    for name, initial in weights.items():
        norm = np.linalg.norm(final[name].astype("f8"))
        total += norm**2
        rows.group = "final norm"
        rows.relative(name, norm, data[f"final_norm/{name}"], 1e-5)
        rows.group = "final delta"
        moved = np.linalg.norm(final[name].astype("f8") - initial)
        rows.relative(name, moved, data[f"delta_norm/{name}"], 3e-4)
    rows.group = "final norm"
    rows.relative("all", np.sqrt(total), data["final_norm_all"], 1e-5)


# ---------------------------------------------------------------- primitives --


def primitives(data, config, run):
    rows = Rows()
    get = lambda group: below(data, f"{group}/")
    lambda_returns(rows, get, config, run)
    latents(rows, get, run)
    networks(rows, get, run)
    policies(rows, get, config, run)
    exploration(rows, get, config, run)
    optimizer(rows, get, config)
    experience(rows, get, config)
    return rows


def lambda_returns(rows, get, config, run):
    rows.group = "returns"
    for i, options in enumerate(config["lambda_return"]):
        d, axis = get(f"lambda_return/{i}"), options["axis"]
        first = lambda x, axis=axis: np.moveaxis(x, axis, 0)
        reward, value = first(d["reward"]), first(d["value"])
        zeros = np.zeros_like(reward)
        pcont = options["pcont"]
        pcont = first(d["pcont"]) if pcont == "array" else zeros + pcont
        bootstrap = d.get("bootstrap", zeros[0])
        following = np.concatenate([value[1:], bootstrap[None]])
        args, lam = (reward, pcont, following), options["lambda"]
        ours = run(lambda a=args, lam=lam: returns.lambda_return(*map(_t, a), lam))
        rows.relative(f"lambda_return {i}", ours, first(d["return"]), 1e-5)


def latents(rows, get, run):
    rows.group = "latents"
    d = get("kl")

    def kl():
        post, prior = (
            distributions.DiagNormal(_t(d[f"{k}_mean"]), _t(d[f"{k}_std"]))
            for k in ("post", "prior")
        )
        return post.kl(prior)

    ours = run(kl)
    rows.relative("kl", ours, d["per_step"], 1e-5)
    rows.relative("kl mean", ours.mean(), d["mean"], 1e-5)
    clipped = np.maximum(ours.mean(), d["free_nats"])
    rows.relative("kl clipped", clipped, d["loss"], 1e-5)
    d = get("onehot")
    logits, index = d["logits"], d["index"].astype(int)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.arange(len(index)), index
    noise = np.cumsum(probs, -1)[chosen] - probs[chosen] / 2
    value = np.eye(logits.shape[-1])[index]
    dist = lambda x: distributions.OneHot(x + 0)
    sample = lambda x: dist(x).sample(_t(noise))
    (grad,) = run.grad(lambda x: ops.sum(sample(x) * _t(d["weight"])), logits)
    ours = {
        "sample": run(lambda: sample(_t(logits))),
        "grad_logits": grad,
        "mean": run(lambda: dist(_t(logits)).probs),
        "mode": run(lambda: dist(_t(logits)).sample()),
        "log_prob": run(lambda: dist(_t(logits)).log_prob(_t(value))),
        "entropy": run(lambda: dist(_t(logits)).entropy()),
    }
    for name, x in ours.items():
        rows.relative(f"onehot {name}", x, d[name], 1e-5)


def networks(rows, get, run):
    rows.group = "rssm"
    d = get("rssm")
    sizes = {"stoch_size": d["step/prev_stoch"].shape[-1]}
    sizes["deter_size"] = d["step/prev_deter"].shape[-1]
    widths = d["step/prev_action"].shape[-1], d["step/embed"].shape[-1]
    cell = v1.RSSM(v1.Config(**sizes), *widths, name="dynamics")
    cell.build()
    load_weights({v.path: v for v in cell.trainable_variables}, part(d, "weight/"))
    eps = lambda *shape: ops.broadcast_to(_t(d["eps_latent"]), (*shape, cell.stoch))

    def prior(deter):
        dist = cell.prior(deter)
        stoch = dist.sample(eps(*deter.shape[:-1]))
        return {"mean": dist.mean, "std": dist.std, "stoch": stoch, "deter": deter}

    def posterior(belief):
        found = {"mean": belief.dist.mean, "std": belief.dist.std}
        return found | {"deter": belief.deter, "stoch": belief.stoch}

    def observe(embed, action, start):
        size, length = embed.shape[:2]
        batch = {"action": action, "is_first": np.zeros((size, length), bool)}
        return rssm.observe(cell, start, embed, batch, eps(size, length))

    def step():
        state = rssm.State(*(_t(d[f"step/prev_{k}"]) for k in ("deter", "stoch")))
        action, embed = (_t(d[f"step/{k}"])[:, None] for k in ("prev_action", "embed"))
        belief, last = observe(embed, action, state)
        img = rssm.advance(cell, state, action[:, 0], eps(len(d["step/embed"])))
        post = {k: v[:, 0] for k, v in posterior(belief).items()}
        return named(
            post=post | {"feat": cell.feat(last)},
            prior=prior(last.deter),
            img=prior(img.deter) | img._asdict(),
        )

    def sequence():
        embed, action = _t(d["seq/embed"]), _t(d["seq/action"])
        size, length = embed.shape[:2]
        belief, last = observe(embed, action, cell.initial(size))
        later = rssm.predict(cell, last, action, eps(size, length))
        return named(
            post=posterior(belief),
            prior=prior(belief.deter),
            open=prior(later.deter) | later._asdict(),
        )

    for group, fn in (("step", step), ("seq", sequence)):
        for name, value in run(fn, cell.variables).items():
            if f"{group}/{name}" in d:
                rows.relative(f"{group} {name}", value, d[f"{group}/{name}"], 1e-5)
    g = get("gru")
    ours = run(
        lambda: cell.cell(_t(g["input"]), [_t(g["state"])])[0], cell.cell.variables
    )
    rows.relative("gru", ours, g["output"], 1e-5)

    rows.group = "coders"
    e, d = get("encoder"), get("decoder")
    images = {"image": e["image"].shape[2:]}
    depth = e["weight/encode/h1/kernel"].shape[-1]
    names = [f"h{i}" for i in range(1, 6)]
    options = {"depth": depth, "cnn_act": v1.Config().cnn_act}
    encoder = nets.StridedEncoder(images, {}, **options, convs=names[:4], name="encode")
    built(encoder, part(e, "weight/"))
    ours = run(lambda: encoder({"image": _t(e["image"])}), encoder.variables)
    rows.relative("encoder", ours, e["embed"], 1e-5)
    decoder = nets.StridedDecoder(
        images, {}, d["feat"].shape[-1], **options, convs=names, name="decode"
    )
    built(decoder, part(d, "weight/"))
    mean = run(lambda: decoder(_t(d["feat"]))["image"], decoder.variables)
    rows.relative("decoder", mean[0, 0], d["mean_first"], 1e-5)
    target = e["image"].astype("float32") / 255 - 0.5
    ours = run(lambda: distributions.UnitNormal(_t(mean), 3).log_prob(_t(target)))
    rows.relative("decoder log_prob", ours, d["log_prob"], 1e-5)

    rows.group = "heads"
    d = get("heads")
    for name in ("reward", "value", "pcont"):
        head = make_head(name, part(d, "weight/"))
        kind = distributions.UnitNormal
        if name == "pcont":
            kind = distributions.Bernoulli

        def evaluate(head=head, kind=kind, target=d[f"{name}/target"]):
            dist = kind(head(_t(d["feat"]))["hout"][..., 0])
            return {"mean": dist.mean, "log_prob": dist.log_prob(_t(target))}

        for key, value in run(evaluate, head.variables).items():
            rows.relative(f"{name} {key}", value, d[f"{name}/{key}"], 1e-5)
    image, d = np.arange(256, dtype=np.uint8), get("preprocess")
    rows.relative("preprocess image", d["image"], image, 0)
    ours = run(lambda: distributions.centred(_t(image)))
    rows.relative("preprocess image out", ours, d["image_out"], 1e-6)
    rows.relative("preprocess reward", np.tanh(d["reward"]), d["reward_tanh"], 1e-5)


def make_head(name, weights):
    """A head with recorded weights."""
    own = {k: v for k, v in weights.items() if k.startswith(f"{name}/")}
    depth = len(own) // 2 - 1
    width, units = own[f"{name}/h0/kernel"].shape
    outputs = {"hout": own[f"{name}/hout/kernel"].shape[-1]}
    names = {"hidden": "h{}", "group": "", "name": name}
    head = nets.HeadNet(depth, units, outputs, "elu", "none", **names)
    return built(head, own, (None, width))


def policies(rows, get, config, run):
    rows.group = "policies"
    feat = get("heads")["feat"]
    for i, init_std in enumerate(config["actor_init_std"]):
        d = get(f"actor/{i}")
        head = make_head("actor", part(d, "weight/"))
        ours = v1.Config(action_init_std=init_std)

        def evaluate(head=head, ours=ours, d=d):
            dist = nets_v1.action(ours, False, head(_t(feat)))
            log_prob = dist.log_prob(_t(d["action"]))
            return {"loc": dist.mean, "scale": dist.std, "log_prob": log_prob}

        ours = run(evaluate, head.variables)
        edge = (1 - np.abs(d["action"])).min(-1) < 1e-5
        for name in ("loc", "scale"):
            rows.relative(f"actor {i} {name}", ours[name], d[name], 1e-5)
        for name, rule, tolerance in (("inside", ~edge, 1e-5), ("edge", edge, 1e-3)):
            a, b = ours["log_prob"][rule], d["log_prob"][rule]
            rows.relative(f"actor {i} log_prob {name}", a, b, tolerance)
    for count in (1, 3):
        d = get(f"mode/{count}")
        if d:
            mode(rows, d, count, run)


def mode(rows, d, count, run):
    """The likeliest of given samples; officially that of the first row for all."""

    def evaluate():
        # Raw outputs that give these parameters.
        loc = ops.arctanh(_t(d["loc"]) / 5) * 5
        scale = ops.log(ops.expm1(_t(d["scale"])))
        dist = distributions.TanhNormal(loc, scale, 0.0, 0.0)
        samples = _t(d["samples"])
        return dist.log_prob(samples), dist.best(samples)

    log_prob, best = run(evaluate)
    edge = (1 - np.abs(d["samples"])).min(-1) < 1e-5
    for name, rule, tolerance in (("inside", ~edge, 1e-4), ("edge", edge, 1e-3)):
        a, b = log_prob[rule], d["log_prob"][rule]
        rows.relative(f"mode {count} log_prob {name}", a, b, tolerance)
    rows.relative(f"mode {count} first row", best[0], d["mode"][0], 1e-5)
    others = d["samples"][log_prob[:, 0].argmax()]
    rows.relative(f"mode {count} official rows", others, d["mode"], 1e-5)
    own = d["samples"][log_prob.argmax(0), np.arange(count)]
    rows.relative(f"mode {count} our rows", best, own, 1e-5)


def exploration(rows, get, config, run):
    rows.group = "exploration"
    d = get("expl")
    for i, options in enumerate(config["expl"]):
        names = {"amount": "expl_amount", "decay": "expl_decay", "min": "expl_min"}
        ours = v1.Config(**{v: options[k] for k, v in names.items()})
        made = types.SimpleNamespace(config=ours)

        def train(made=made, step=options["step"]):
            frames = ops.full((len(d["action"]), 1), step, "float32")
            amount = v1.DreamerV1.expl_amount(made, frames)
            return distributions.explore(_t(d["action"]), amount, _t(d["noise"]), False)

        def evaluate(amount=options["eval_noise"]):
            return distributions.explore(_t(d["action"]), amount, _t(d["noise"]), False)

        rows.relative(f"{i} train", run(train), d[f"{i}/train"], 1e-5)
        if options["eval_noise"]:
            rows.relative(f"{i} eval", run(evaluate), d[f"{i}/eval"], 1e-5)


def optimizer(rows, get, config):
    rows.group = "optimizer"
    for i, options in enumerate(config["adam"]):
        d = get(f"adam/{i}")
        names = [k.removeprefix("init_") for k in d if k.startswith("init_")]
        params = {k: keras.Variable(d[f"init_{k}"], dtype="float32") for k in names}
        adam = optimizers.Adam("opt", params, options["lr"], 1e-7, options["clip"] or 0)
        for t, norm in enumerate(d["norm"]):
            ours = adam.apply({k: _t(d[f"grad_{k}"][t]) for k in names})
            rows.relative(f"{i} norm {t}", engine.to_host(ours), norm, 1e-5)
            for k, theta in params.items():
                theirs = d[f"weight_{k}"][t]
                rows.relative(f"{i} {k} {t}", np.asarray(theta), theirs, 1e-5)


def experience(rows, get, config):
    rows.group = "replay"
    for i, options in enumerate(config["replay"]):
        d = get(f"replay/{i}")
        lengths = d["key_lengths"].astype(int).tolist()
        rng = np.random.RandomState(0)
        draws: tuple[list, list] = ([], [])
        while len(draws[0]) < options["chunks"]:
            new = replay.draw_chunks(
                rng,
                lengths,
                options["length"],
                options["rescan"],
                options["balance"],
            )
            for kept, more in zip(draws, new):
                kept.extend(more)
        for name, values in zip(("position", "start"), draws):
            rows.relative(f"{i} {name}", values[: options["chunks"]], d[name], 0)
    rows.group = "environment"
    d = get("collect")
    env = Counting(**config["collect"])
    records = [env.reset()] + [env.step(a) for a in d["policy_action"]]
    stacked = {k: np.stack([r[k] for r in records]) for k in records[0]}
    stacked["discount"] = 1.0 - stacked["is_terminal"]
    for name in ("image", "action", "reward", "discount"):
        rows.relative(name, stacked[name], d[f"episode_{name}"], 1e-5)
    rows.relative("is_last", stacked["is_last"][1:], d["done"], 0)
    # Of the first dimension, which has two bounds. Where there is one, the official
    # code executes actions outside of the space: see reproductions/differences.md.
    executed = np.array(env.executed)[:, :1]
    rows.relative("executed", executed, d["env_action"][:, :1], 1e-5)


class Counting(Env):
    """The k-th frame gives a reward of 0.1 k, and images show k."""

    def __init__(self, inner_end, end_discount, repeat, time_limit):
        super().__init__({"image": image_box(2, 2)}, action_box(2), repeat, time_limit)
        self.end, self.terminal = inner_end, end_discount == 0
        self.scale = ActionScale(np.array([-2.0, 0.0]), np.array([3.0, np.inf]))
        self.executed, self.count = [], 0

    def _reset(self, seed):
        self.count = 0

    def _frame(self, action):
        self.executed.append(self.scale(action))
        self.count += 1
        last = self.count >= self.end
        return 0.1 * self.count, last, last and self.terminal

    def _observe(self):
        return {"image": np.full((2, 2, 3), self.count, np.uint8)}

    def render(self, size=None):
        raise NotImplementedError


def part(d, prefix):
    return {k[len(prefix) :]: v for k, v in d.items() if k.startswith(prefix)}


def named(**groups):
    return {f"{g}_{k}": v for g, values in groups.items() for k, v in values.items()}


def _t(x):
    """A tensor: uint8 and bool stay, all else float32."""
    x = np.asarray(x)
    keep = x.dtype in (np.uint8, np.bool_)
    return ops.convert_to_tensor(x if keep else x.astype("float32"))
