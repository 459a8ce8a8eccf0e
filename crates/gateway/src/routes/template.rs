//! Templates of agents: list, show, render. Rendering changes nothing; the agent is made by `POST /v1/agents`.

use axum::Json;
use dromia_api::ListPage;
use dromia_api::template::{RenderTemplate, RenderedTemplate, TemplateResource, VariableResource};
use dromia_contracts::ErrorCode;
use dromia_templates::{AgentTemplate, TEMPLATES, find_template};

use crate::extract::{JsonBody, PathSegments};
use crate::failure::{Answer, ApiError};
use crate::nearest_name::nearest_name;

/// The alias of the model where the request names none.
const MODEL: &str = "default";

/// There are few, so one page holds them.
pub(crate) async fn list_templates() -> Json<ListPage<TemplateResource>> {
    let items = TEMPLATES.iter().map(template_resource).collect();
    Json(ListPage { items, next: None })
}

pub(crate) async fn show_template(
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<TemplateResource>> {
    let template = find_named(&name)?;
    let instructions = Some(template.instructions.to_owned());
    Ok(Json(TemplateResource { instructions, ..template_resource(template) }))
}

pub(crate) async fn render_template(
    PathSegments(name): PathSegments<String>,
    JsonBody(wanted): JsonBody<RenderTemplate>,
) -> Answer<Json<RenderedTemplate>> {
    let rendered = find_named(&name)?
        .render_agent(&wanted.variables)
        .map_err(|error| ApiError::invalid_request(error.to_string()))?;
    let mut config = rendered.config;
    config.model = wanted.model.unwrap_or_else(|| MODEL.to_owned());
    Ok(Json(RenderedTemplate { config, labels: rendered.labels }))
}

fn find_named(name: &str) -> Answer<&'static AgentTemplate> {
    find_template(name).ok_or_else(|| {
        let absent = ApiError::not_found(ErrorCode::TemplateNotFound, "template", name);
        match nearest_name(name, TEMPLATES.iter().map(|template| template.name)) {
            Some(near) => {
                absent.with_hint(format!("did you mean {near}? `dromia template list` lists all templates"))
            }
            None => absent,
        }
    })
}

fn template_resource(template: &AgentTemplate) -> TemplateResource {
    let variables = template.variables.iter().map(|variable| VariableResource {
        name: variable.name.to_owned(),
        about: variable.about.to_owned(),
        default: variable.default.to_owned(),
    });
    TemplateResource {
        name: template.name.to_owned(),
        summary: template.summary.to_owned(),
        variables: variables.collect(),
        grants: template.grants.iter().map(|&grant| grant.to_owned()).collect(),
        mind: template.mind,
        sample: template.sample.to_owned(),
        watch: template.watch.to_owned(),
        instructions: None,
    }
}
