r"""The table of templates: data only. `template.py` says what the fields mean.

Names and texts are MindSpeed-LLM's (v2.1.0, and its head of 2026-08 for qwen3 and the like), but
`vicuna`, which is FastChat's `vicuna_v1.1`. What is `special` must be in the tokenizer's vocabulary
as one entry; `[INST]` is text here, as in Llama 2 and the first Mistral models. Where a tokenizer
has it: `attrs.evolve(TEMPLATES["mistral"], special=("[INST]", "[/INST]"))`.
"""

from __future__ import annotations

from types import MappingProxyType

from attrs import evolve

from mfunc.data.dialogue.template import Template

_PLAIN = "{name}\n{arguments}"
_TOOL_CALL = "<tool_call>\n{call}\n</tool_call>"
_THINK = "<think>\n{content}\n</think>\n\n"
_TOOL_RESPONSE = (
    "<|im_start|>user\n<tool_response>\n{content}\n</tool_response><|im_end|>\n"
    "<|im_start|>assistant\n"
)
_HELPFUL = "You are a helpful assistant."

_CHATML = Template(
    system="<|im_start|>system\n{content}<|im_end|>\n",
    user="<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n",
    assistant="{content}{eos}",
    observation="<|im_start|>tool\n{content}<|im_end|>\n<|im_start|>assistant\n",
    separator="\n",
    eos="<|im_end|>",
    special=("<|im_start|>", "<|im_end|>"),
)
# Turns that end with the newline, which is trained, so that no separator is needed.
_CHATML_LINES = evolve(
    _CHATML, assistant="{content}<|im_end|>\n", function="{content}{eos}", separator=""
)

_DEEPSEEK2 = Template(
    prefix="{bos}",
    system="{content}\n\n",
    user="User: {content}\n\nAssistant:",
    assistant="{content}{eos}",
)

_MISTRAL = Template(prefix="{bos}", user="[INST] {content} [/INST]", assistant="{content}{eos}")

_CHATGLM3 = Template(
    prefix="[gMASK]sop",
    system="<|system|>\n{content}",
    user="<|user|>\n{content}<|assistant|>",
    assistant="\n{content}",
    observation="<|observation|>\n{content}<|assistant|>",
    function="{content}",
    tools="glm4",
    efficient_eos=True,
    special=("[gMASK]", "sop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
_GLM4 = evolve(
    _CHATGLM3,
    prefix="[gMASK]<sop>",
    call=_PLAIN,
    special=("[gMASK]", "<sop>", *_CHATGLM3.special[2:]),
)

_LLAMA = {
    "llama2": Template(
        user="{bos}[INST] {system}{content} [/INST]",
        assistant="{content}{eos}",
        system="<<SYS>>\n{content}\n<</SYS>>\n\n",
    ),
    "llama3": Template(
        prefix="{bos}",
        system="<|start_header_id|>system<|end_header_id|>\n\n{content}<|eot_id|>",
        user=(
            "<|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
        assistant="{content}{eos}",
        observation=(
            "<|start_header_id|>tool<|end_header_id|>\n\n{content}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
        eos="<|eot_id|>",
        special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "alpaca": Template(
        user="### Instruction:\n{content}\n\n### Response:\n",
        assistant="{content}{eos}",
        separator="\n\n",
        default_system=(
            "Below is an instruction that describes a task. "
            "Write a response that appropriately completes the request.\n\n"
        ),
    ),
    # A tokenizer that puts a space before every piece (Llama's SentencePiece, dummy prefix and all)
    # writes the one before an answer itself. For FastChat's ids with it:
    # evolve(TEMPLATES["vicuna"], assistant="{content}{eos}").
    "vicuna": Template(
        prefix="{bos}",
        system="{content} ",
        user="{system}USER: {content} ASSISTANT:",
        assistant=" {content}{eos}",
        default_system=(
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions."
        ),
    ),
}

_QWEN = {
    "chatml": _CHATML,
    "chatml_de": evolve(
        _CHATML, default_system="Du bist ein freundlicher und hilfsbereiter KI-Assistent."
    ),
    "qwen": evolve(_CHATML, default_system=_HELPFUL),
    "qwen_r1": evolve(
        _CHATML,
        user=(
            "<|im_start|>user\nA conversation between User and Assistant. The user asks a "
            "question, and the Assistant solves it. The assistant first thinks about the "
            "reasoning process in the mind and then provides the user with the answer. The "
            "reasoning process and answer are enclosed within <think> </think> and <answer> "
            "</answer> tags, respectively, i.e., <think> reasoning process here "
            "</think><answer> answer here </answer>Put your final answer within \\\\boxed{}. "
            "{content}<|im_end|>\n<|im_start|>assistant\n"
        ),
        default_system=_HELPFUL,
    ),
    "qwen_math_r1": evolve(
        _CHATML,
        default_system="Please reason step by step, and put your final answer within \\boxed{}.",
    ),
    "qwen_lf": evolve(
        _CHATML_LINES,
        observation=_TOOL_RESPONSE,
        default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    ),
    "qwen3": evolve(
        _CHATML_LINES,
        observation=_TOOL_RESPONSE,
        function="{content}<|im_end|>\n",
        call=_TOOL_CALL,
        tools="qwen",
        thought=_THINK,
    ),
    "plm": evolve(
        _CHATML_LINES,
        observation="",
        default_system=_HELPFUL,
        eos="<|endoftext|>",
    ),
    "intern2": evolve(_CHATML_LINES, prefix="{bos}", observation="", eos="eos"),
}

_GLM = {
    "chatglm2": Template(
        prefix="[gMASK]sop",
        user="[Round {idx}]\n\n问：{content}\n\n答：",
        assistant="{content}",
        separator="\n\n",
        efficient_eos=True,
        special=("[gMASK]", "sop"),
    ),
    "chatglm3": _CHATGLM3,
    "chatglm3_system": evolve(
        _CHATGLM3,
        prefix="",
        system="[gMASK]sop<|system|>\n{content}",
        call=_PLAIN,
        tools="default",
        default_system=(
            "You are ChatGLM3, a large language model trained by Zhipu.AI. Follow the user's "
            "instructions carefully. Respond using markdown."
        ),
    ),
    "glm4": _GLM4,
    "glm4_moe": evolve(_GLM4, tools="glm4_moe", thought=_THINK),
}

_DEEPSEEK = {
    "deepseek2": _DEEPSEEK2,
    "deepseek2-lite": _DEEPSEEK2,
    "minicpm3": _DEEPSEEK2,
    "deepseek3": Template(
        prefix="{bos}",
        user="<｜User｜>{content}<｜Assistant｜>",
        assistant="{content}{eos}",
        special=("<｜User｜>", "<｜Assistant｜>"),
    ),
    "deepseek4": Template(
        prefix="<｜begin▁of▁sentence｜>",
        user="<｜User｜>{content}<｜Assistant｜>",
        assistant="{content}{eos}",
        call="",
        tools="deepseek4",
        thought="<think>{content}</think>",
        no_thought="</think>",
        eos="<｜end▁of▁sentence｜>",
        special=(
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            "<｜User｜>",
            "<｜Assistant｜>",
        ),
    ),
}

_OTHERS = {
    "default": Template(
        system="{content}\n",
        user="Human: {content}\nAssistant:",
        assistant="{content}{eos}",
        separator="\n",
    ),
    "empty": Template(user="{content}", assistant="{content}", function="{content}{eos}"),
    "trl": Template(
        prefix="{bos}", user="{content}", assistant="{content}", function="{content}{eos}"
    ),
    "hunyuan": Template(
        user="{content}",
        assistant="{content}",
        function="{content}{eos}",
        default_system=_HELPFUL,
    ),
    "mistral": _MISTRAL,
    "mixtral": _MISTRAL,
    "magistral": evolve(
        _MISTRAL,
        system="[SYSTEM_PROMPT]{content}[/SYSTEM_PROMPT]",
        user="[INST]{content}[/INST]",
        default_system=(
            "system_prompt\n\nA user will ask you to solve a task. You should first draft your "
            "thinking process (inner monologue) until you have derived the final answer. "
            "Afterwards, write a self-contained summary of your thoughts (i.e. your summary "
            "should be succinct but contain all the critical steps you needed to reach the "
            "conclusion). You should use Markdown to format your response. Write both your "
            "thoughts and summary in the same language as the task posed by the user. NEVER use "
            "\\boxed{} in your response.\nYour thinking process must follow the template below:\n"
            "<think>\nYour thoughts or/and draft, like working through an exercise on scratch "
            "paper. Be as casual and as long as you want until you are confident to generate a "
            "correct answer.\n</think>\nHere, provide a concise summary that reflects your "
            "reasoning and presents a clear final answer to the user. Don't mention that this is "
            "a summary.\n\nProblem:\n\n"
        ),
        thought=_THINK,
        special=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    ),
    "gemma": Template(
        prefix="{bos}",
        user="<start_of_turn>user\n{content}<end_of_turn>\n<start_of_turn>model\n",
        assistant="{content}",
        observation="<start_of_turn>tool\n{content}<end_of_turn>\n<start_of_turn>model\n",
        separator="<end_of_turn>\n",
        efficient_eos=True,
        special=("<start_of_turn>", "<end_of_turn>"),
    ),
    "cpm": Template(
        prefix="{bos}",
        user="<用户>{content}<AI>",
        assistant="{content}{eos}",
        special=("<用户>", "<AI>"),
    ),
    "baichuan2": Template(
        user="<reserved_106>{content}<reserved_107>",
        assistant="{content}",
        efficient_eos=True,
        special=("<reserved_106>", "<reserved_107>"),
    ),
    "bailing_mini": Template(
        system="<role>SYSTEM</role>{content}<|role_end|>",
        user="<role>HUMAN</role>{content}<|role_end|><role>ASSISTANT</role>",
        assistant="{content}<|role_end|>",
        observation=(
            "<role>OBSERVATION</role>\n<tool_response>\n{content}\n</tool_response><|role_end|>"
            "<role>ASSISTANT</role>"
        ),
        call=_TOOL_CALL,
        tools="ling",
        efficient_eos=True,
        special=("<role>", "</role>", "<|role_end|>"),
    ),
    "gpt_oss": Template(
        system="<|start|>system<|message|>{content}<|end|>",
        user="<|start|>user<|message|>{content}<|end|><|start|>assistant",
        assistant="{content}<|end|>",
        function="{content}",
        default_system="You are ChatGPT, a large language model trained by OpenAI.",
        thought=(
            "<|channel|>analysis<|message|>{content}"
            "<|end|><|start|>assistant<|channel|>final<|message|>"
        ),
        efficient_eos=True,
        special=("<|start|>", "<|message|>", "<|end|>", "<|channel|>"),
    ),
}

TEMPLATES = MappingProxyType({**_LLAMA, **_QWEN, **_GLM, **_DEEPSEEK, **_OTHERS})
