# ---- the plan -----------------------------------------------------------------------------

_TRANSFORMS = {None: PLAIN, "str": STR, "isoformat": ISOFORMAT, "key": WHOLE_KEY}

cdef struct Hop:
    int column           # of the row: holds the id
    int model            # that it leads to
    int index            # of that model: finds the row
    int first_position   # where the rest of the path stands in that model's natural key: the
    int positions        # number of the part, of the part in that part, …; none: nowhere;
                         # NOWHERE: the id is no relation, and so never a key
    Transform transform  # to apply to that part

cdef struct PartPlan:    # of a natural key
    Text before          # brackets and commas in front of it
    int first_hop        # of the path to its value
    int hops
    int column
    Transform transform

cdef struct FieldPlan:
    Text name
    int column
    int relation
    int step             # NOWHERE, or the first of the paths to ids inside the field

cdef struct KeyPlan:
    int first_part
    int parts
    Text tail            # behind the last part

cdef struct RelationPlan:
    Text name
    int model
    int index            # NOWHERE: the target has no natural key, so ids stay
    bint many
    bint embedded        # the name is a path into a field
    KeyPlan key          # that is written: the target's, or in Django's dump that of a proxy

cdef struct StepPlan:    # of the paths into a field
    Text name            # of a member
    int relation         # of an id that stands here, or NOWHERE
    int elements         # the step to the elements of a list, or NOWHERE
    int first_member     # the steps to members of an object
    int members

cdef struct GenericPlan:
    Text name            # of the field with the id
    bint may_dangle      # an id that leads nowhere stays
    bint lacks_rows      # those of its targets are not kept
    int type_column      # of the record: holds the content type, or a label as text
    int id_column        # of the record: holds the id
    int model            # of content types; NOWHERE where there is a label
    int index            # of that model: finds the content type's row
    int app_column       # of that row
    int name_column      # of that row
    int first_label      # texts that stand for labels
    int labels

cdef struct LabelPlan:
    Text text
    int model

cdef struct ModelPlan:
    Text label
    bint natural
    bint keep_pk         # the pk is data that the natural key does not hold
    bint parent_link     # the pk is the link to the parent in multi-table inheritance
    int pk_relation      # NOWHERE where the pk refers to nothing
    int columns          # noted of a record
    int row_columns      # the first of them, which its row keeps
    int pk_column
    int pk_part          # where the pk stands in the natural key, if need be as a text; or NOWHERE
    int first_generic
    int generics
    int first_field
    int fields
    KeyPlan key
    int first_index
    int indexes


cdef void *_array(size_t count, size_t size) except NULL:
    cdef void *array = calloc(count or 1, size)
    if array == NULL:
        raise MemoryError
    return array


@cython.final
@cython.no_gc
cdef class Plan:
    """A schema in the form that the passes need. Immutable; any number of calls may share it.

    Not seen by the garbage collector, like all that refers to it: it cannot be part of a cycle,
    and must not be cleared while an `Indexer` still frees what it describes.

    `models`: per model a dict with `label` (bytes), `proxies` (their labels), `natural` (key, or
    None), `keep_pk`, `parent_link`, `pk_relation`, `columns`, `row_columns`, `pk_column`, `pk_part`,
    `fields` [(name, column, relation, step)], `indexes` [column, -1 for the pk] and `generics`
    [(name, may dangle, lacks rows, type column, id column, model, index, app column, name column,
    [(text, model)])].
    `parts` of natural keys: [(text before, hops, column, transform)] with hops [(column, model,
    index, positions, transform)]; a key is (range of parts, text behind them).
    `relations`: [(field name, model, index, many, embedded, key)].
    `steps`: [(name, relation, elements, members)], members being a range of steps.
    """

    cdef ModelPlan *models
    cdef FieldPlan *fields
    cdef RelationPlan *relations
    cdef PartPlan *parts
    cdef Hop *hops
    cdef int *indexes
    cdef int *positions
    cdef GenericPlan *generics
    cdef LabelPlan *labels
    cdef LabelPlan *proxies      # of all models
    cdef StepPlan *steps
    cdef int model_count
    cdef int proxy_count
    cdef int field_count
    cdef int index_count
    cdef int generic_count
    cdef int label_count
    cdef list alive

    def __cinit__(self, list models, list parts, list relations, list steps):
        self.alive = []
        self.set_models(models)
        self.set_parts(parts)
        self.set_relations(relations)
        self.steps = <StepPlan *> _array(len(steps), sizeof(StepPlan))
        for i, (name, relation, elements, members) in enumerate(steps):
            self.steps[i] = StepPlan(self.keep(name), relation, elements, members.start,
                                     len(members))

    cdef KeyPlan key_plan(self, tuple key):
        parts, tail = key
        return KeyPlan(parts.start, len(parts), self.keep(tail))

    cdef set_relations(self, list relations):
        self.relations = <RelationPlan *> _array(len(relations), sizeof(RelationPlan))
        for i, (name, model, index, many, embedded, key) in enumerate(relations):
            self.relations[i] = RelationPlan(self.keep(name), model, index, many, embedded,
                                             self.key_plan(key))

    cdef Text keep(self, bytes text):
        """A view of `text`, which lives as long as the plan."""
        cdef Text view
        self.alive.append(text)
        view.data = <const uint8_t *> text
        view.length = len(text)
        return view

    cdef set_models(self, list models):
        self.model_count = len(models)
        self.models = <ModelPlan *> _array(len(models), sizeof(ModelPlan))
        self.fields = <FieldPlan *> _array(
            sum([len(model["fields"]) for model in models]), sizeof(FieldPlan))
        self.indexes = <int *> _array(
            sum([len(model["indexes"]) for model in models]), sizeof(int))
        self.generics = <GenericPlan *> _array(
            sum([len(model["generics"]) for model in models]), sizeof(GenericPlan))
        self.labels = <LabelPlan *> _array(
            sum([len(words) for model in models for *_, words in model["generics"]]),
            sizeof(LabelPlan))
        self.proxies = <LabelPlan *> _array(
            sum([len(model["proxies"]) for model in models]), sizeof(LabelPlan))
        for i, model in enumerate(models):
            self.set_model(&self.models[i], model)
            for proxy in model["proxies"]:
                self.proxies[self.proxy_count] = LabelPlan(self.keep(proxy), i)
                self.proxy_count += 1

    cdef set_model(self, ModelPlan *m, dict model):
        m.label = self.keep(model["label"])
        m.natural = model["natural"] is not None
        m.keep_pk = model["keep_pk"]
        m.parent_link = model["parent_link"]
        m.pk_relation = model["pk_relation"]
        m.columns = model["columns"]
        m.row_columns = model["row_columns"]
        m.pk_column = model["pk_column"]
        m.pk_part = model["pk_part"]
        m.first_field = self.field_count
        m.fields = len(model["fields"])
        for name, column, relation, step in model["fields"]:
            self.fields[self.field_count] = FieldPlan(self.keep(name), column, relation, step)
            self.field_count += 1
        if m.natural:
            m.key = self.key_plan(model["natural"])
        m.first_index = self.index_count
        m.indexes = len(model["indexes"])
        for column in model["indexes"]:
            self.indexes[self.index_count] = column
            self.index_count += 1
        m.first_generic = self.generic_count
        m.generics = len(model["generics"])
        for generic in model["generics"]:
            self.add_generic(generic)

    cdef add_generic(self, tuple generic):
        (name, may_dangle, lacks_rows, type_column, id_column, model, index, app_column,
         name_column, labels) = generic
        self.generics[self.generic_count] = GenericPlan(
            self.keep(name), may_dangle, lacks_rows, type_column, id_column, model, index,
            app_column, name_column, self.label_count, len(labels))
        self.generic_count += 1
        for text, labelled in labels:
            self.labels[self.label_count] = LabelPlan(self.keep(text), labelled)
            self.label_count += 1

    cdef set_parts(self, list parts):
        cdef int number = 0
        cdef int position = 0
        self.positions = <int *> _array(
            sum([len(hop[3] or ()) for _, hops, _, _ in parts for hop in hops]), sizeof(int))
        self.parts = <PartPlan *> _array(len(parts), sizeof(PartPlan))
        self.hops = <Hop *> _array(sum([len(hops) for _, hops, _, _ in parts]), sizeof(Hop))
        for i, (before, hops, column, transform) in enumerate(parts):
            self.parts[i] = PartPlan(self.keep(before), number, len(hops), column,
                                     _TRANSFORMS[transform])
            for hop_column, model, index, positions, part_transform in hops:
                self.hops[number] = Hop(hop_column, model, index, position,
                                        NOWHERE if positions is None else len(positions),
                                        _TRANSFORMS[part_transform])
                number += 1
                for place in positions or ():
                    self.positions[position] = place
                    position += 1

    def __dealloc__(self):
        free(self.models)
        free(self.fields)
        free(self.relations)
        free(self.parts)
        free(self.hops)
        free(self.positions)
        free(self.generics)
        free(self.labels)
        free(self.proxies)
        free(self.steps)
        free(self.indexes)
