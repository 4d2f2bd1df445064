"""ebpf_driver: Windows drivers of eBPF sources and objects, one action for each."""

def _name(source):
    name = source.basename[:-len(source.extension) - 1]
    return name[:-len(".bpf")] if name.endswith(".bpf") else name

def _ebpf_driver_impl(ctx):
    outputs = []
    for source in ctx.files.srcs:
        name = _name(source)
        several = len(ctx.attr.arch) > 1
        drivers = [
            ctx.actions.declare_file("{}{}.sys".format(name, "." + arch if several else ""))
            for arch in ctx.attr.arch
        ]
        arguments = ctx.actions.args()
        arguments.add_all(["build", "--quiet", "--source-root", ctx.label.package or "."])
        arguments.add("--clang", ctx.executable._clang)
        arguments.add_all(ctx.attr.arch, before_each = "--arch")
        arguments.add_all(ctx.attr.defines, before_each = "--define")
        arguments.add_all(ctx.attr.copts, format_each = "--cflag=%s")
        arguments.add("--out-dir", drivers[0].dirname)
        arguments.add(source)

        # One argument per line and no quotes: what the tool reads.
        arguments.set_param_file_format("multiline")
        arguments.use_param_file("@%s")
        ctx.actions.run(
            mnemonic = "EbpfDriver",
            executable = ctx.executable._bpf2sys,
            arguments = [arguments],
            inputs = depset([source] + ctx.files.hdrs),
            tools = [ctx.executable._clang],
            outputs = drivers,
        )
        outputs += drivers
    return [DefaultInfo(files = depset(outputs))]

ebpf_driver = rule(
    implementation = _ebpf_driver_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".c", ".o"], mandatory = True),
        "hdrs": attr.label_list(allow_files = [".h"]),
        "arch": attr.string_list(default = ["x64"]),
        "defines": attr.string_list(),
        "copts": attr.string_list(),
        # Labels of your own, for instance of a http_archive with the tool and one with LLVM.
        "_bpf2sys": attr.label(default = "//tools:bpf2sys", executable = True, cfg = "exec", allow_single_file = True),
        "_clang": attr.label(default = "//tools:clang", executable = True, cfg = "exec", allow_single_file = True),
    },
)
